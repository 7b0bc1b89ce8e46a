#!/usr/bin/env python3
"""Networks and addresses, as access rules have them, beside Python's ipaddress.

Usage: networks_test.py [SEED [ROUNDS]]     $NETWORKS is the program of networks.c

Of what weir takes for a network Python thinks the same. What Python takes and weir refuses is listed in
may_be_refused, each time with a reason. And in sets of networks, the smallest one that holds an address
is the same.
"""
import ipaddress
import os
import random
import re
import subprocess
import sys
import unittest

ODD = "0123456789abcdefABCDEF:.:./%x -"
SPECIAL = ["0.0.0.0/0", "::/0", "::ffff:0:0/96", "::ffff:1.2.3.4", "255.255.255.255/32", "::1/128",
           "::ffff:0:0/95", "1.2.3.4/024", "1.2.3.4/255.255.255.255", "1.2.3.0/0.0.0.255", "01.2.3.4",
           "1.2.3", "::1%lo", "1::2::3", "1.2.3.4/33", "::/129", "1.2.3.4/", "/8", "", "::1.2.3.4",
           "0:0:0:0:0:0:0:0:0", "1.2.3.4/1e1", "1.2.3.4/٣", "fe80::1%1/64", "12345::", "::fffff"]


def any_address(dice):
    bits = dice.choice([32, 128])
    number = dice.getrandbits(bits) & dice.choice([-1, dice.getrandbits(bits), -1 << dice.randrange(bits)])
    if bits == 128 and dice.random() < 0.2:
        number = 0xffff << 32 | number & 0xffffffff
    return (ipaddress.IPv4Address if bits == 32 else ipaddress.IPv6Address)(number)


def any_text(dice):
    """A network; a fourth of them were changed somewhere."""
    if dice.random() < 0.02:
        return dice.choice(SPECIAL)
    address = any_address(dice)
    text = dice.choice([str, lambda it: it.exploded])(address)
    if dice.random() < 0.8:
        length = dice.randrange(address.max_prefixlen + 1)
        if dice.random() < 0.8:
            address = ipaddress.ip_network((address, length), strict=False).network_address
            text = str(address)
        text += f"/{length}"
    if dice.random() < 0.25:
        at = dice.randrange(len(text) + 1)
        text = text[:at] + dice.choice(ODD) + text[at + dice.randrange(2):]
    return text


def as_weir(network):
    """Python's network in weir's terms: an IPv4 one that is mapped into IPv6 is IPv4's."""
    length, number, bits = network.prefixlen, int(network.network_address), network.max_prefixlen
    if bits == 128 and length >= 96 and number >> 32 == 0xffff:
        length, number, bits = length - 96, number & 0xffffffff, 32
    return bits, length, number << (128 - bits)


def read_by_python(text):
    try:
        return as_weir(ipaddress.ip_network(text))
    except ValueError:
        return None


def may_be_refused(text):
    _, _, behind = text.partition("/")
    if "." in behind:
        return "a mask: it can be a slip of the prefix, and there is one way to write a network"
    if re.fullmatch(r"0[0-9]+", behind):
        return "zeros before the prefix, which others read as octal"
    if "%" in text:
        return "a scope: rules are about addresses, wherever they are"
    return None


class Networks(unittest.TestCase):
    def ask(self, lines):
        done = subprocess.run([os.environ["NETWORKS"]], input="".join(f"{line}\n" for line in lines),
                              stdout=subprocess.PIPE, check=True, text=True, encoding="utf-8")
        answers = done.stdout.split("\n")[:-1]
        self.assertEqual(len(answers), len(lines))
        return answers

    def check(self, text, answer):
        python = read_by_python(text)
        if answer == "-":
            self.assertTrue(python is None or may_be_refused(text), f"only Python takes {text!r}")
            return
        family, length, digits = answer.split()
        weir = (32 if family == "4" else 128, int(length), int(digits, 16))
        self.assertEqual(weir, python, repr(text))

    def test_a_network_is_the_one_that_python_reads(self):
        dice = random.Random(SEED)
        texts = SPECIAL + [any_text(dice) for _ in range(ROUNDS)]
        for text, answer in zip(texts, self.ask([f"n {text}" for text in texts])):
            self.check(text, answer)

    def expected(self, networks, host):
        _, _, number = as_weir(ipaddress.ip_network(host))
        bits = as_weir(ipaddress.ip_network(host))[0]
        held = [(length, -i) for i, (family, length, start) in enumerate(networks)
                if family == bits and (number ^ start) >> (128 - length) == 0]
        return str(-max(held)[1]) if held else "-"

    def test_the_smallest_network_that_holds_an_address_is_the_same(self):
        dice = random.Random(SEED + 1)
        lines, wanted = [], []
        for _ in range(ROUNDS // 100):
            hosts = [any_address(dice) for _ in range(12)]
            networks = {as_weir(ipaddress.ip_network((host, dice.randrange(host.max_prefixlen + 1)),
                                                     strict=False)): None
                        for host in hosts for _ in range(4)}
            lines.append("c")
            wanted.append("")
            for family, length, start in networks:
                address = (ipaddress.IPv4Address(start >> 96) if family == 32
                           else ipaddress.IPv6Address(start))
                lines.append(f"n {address}/{length}")
                wanted.append(f"{4 if family == 32 else 6} {length} {start:032x}")
            for host in hosts + [any_address(dice) for _ in range(12)]:
                lines.append(f"h {host}")
                wanted.append(self.expected(list(networks), host))
        for line, answer, want in zip(lines, self.ask(lines), wanted):
            self.assertEqual(answer, want, line)


SEED, ROUNDS = (int(word) for word in (sys.argv[1:3] + ["1", "20000"][len(sys.argv[1:3]):]))

if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
