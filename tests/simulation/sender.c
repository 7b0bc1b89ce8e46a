#include "tests/simulation/sender.h"

#include "tests/simulation/client.h"
#include "tests/simulation/report.h"
#include "tests/simulation/trace.h"

#include <arpa/inet.h>
#include <string.h>

#define PORT_FIRST 40000

static bool stopped;

void senders_stop(void)
{
    stopped = true;
}

static bool is_reply_to(const struct phrase *phrase, const unsigned char *data, size_t len)
{
    if (len != phrase_reply_len(phrase))
        return false;
    for (size_t i = 0; i < len; i++)
        if (data[i] != phrase_reply_byte(phrase, i))
            return false;
    return true;
}

static void receive(struct datagram_peer *peer, const unsigned char *data, size_t len)
{
    struct sender *sender = (struct sender *)((char *)peer - offsetof(struct sender, peer));

    trace_note("sender", sender->number, "is answered, %ld bytes", (long)len, 0, 0);
    for (unsigned i = 0; i < SENDER_OPEN; i++) {
        if (sender->open[i].until_ns == 0 || !is_reply_to(&sender->open[i].phrase, data, len))
            continue;
        sender->open[i].until_ns = 0;
        clients_answered++;
        return;
    }
    /* It may have been given up, since it might have been lost. */
    if (sender->manners->may_lose)
        return;
    report_failure("sender %u: an answer to nothing that it has asked, %zu bytes",
                   sender->number, len);
}

static void send_datagram(struct sender *sender, unsigned slot)
{
    const struct sender_manners *manners = sender->manners;
    char what = manners->says[dice_below(&sender->dice, strlen(manners->says))];
    struct phrase *phrase = &sender->open[slot].phrase;
    unsigned char data[DATAGRAM_MAX];
    size_t len;

    *phrase = (struct phrase){
        .what = what, .number = (uint32_t)dice_around(&sender->dice, manners->wait_ms) % 1000,
        .text_len = 1 + sender->next % 200, .salt = sender->next * 7919,
    };
    sender->next++;
    sender->left--;
    len = phrase_request_len(phrase);
    for (size_t i = 0; i < len; i++)
        data[i] = phrase_request_byte(phrase, i);
    sender->open[slot].until_ns = scheduler_now_ns() + manners->patience_ns;
    trace_note("sender", sender->number, "sends %ld bytes", (long)len, 0, 0);
    if (!datagrams_arrive(manners->port, &sender->peer, data, len))
        sender->open[slot].until_ns = 0;
}

/* A slot for one more, or SENDER_OPEN; *ret_any: some are still to be answered. */
static unsigned free_slot(struct sender *sender, bool *ret_any)
{
    unsigned slot = SENDER_OPEN;

    *ret_any = false;
    for (unsigned i = 0; i < SENDER_OPEN; i++) {
        uint64_t until_ns = sender->open[i].until_ns;
        uint64_t held_ns = sender->manners->may_lose ? 0 : scheduler_held_ns();

        if (until_ns != 0 && scheduler_now_ns() > until_ns + held_ns) {
            if (!stopped && !sender->manners->may_lose)
                report_failure("sender %u: a datagram is not answered", sender->number);
            sender->open[i].until_ns = until_ns = 0;
        }
        if (until_ns == 0)
            slot = i;
        else
            *ret_any = true;
    }
    return slot;
}

static void step(struct actor *actor)
{
    struct sender *sender = (struct sender *)actor;
    bool any;
    unsigned slot = free_slot(sender, &any);
    uint64_t wait_ns = dice_around(&sender->dice, sender->manners->think_ns);

    if (sender->done)
        return;
    if (stopped || (sender->left == 0 && !any)) {
        sender->done = true;
        client_is_done();
        return;
    }
    if (sender->left > 0 && slot < SENDER_OPEN)
        send_datagram(sender, slot);
    else
        wait_ns += 10 * MS_NS;
    actor_wake_at(actor, scheduler_now_ns() + wait_ns);
}

void sender_init(struct sender *sender, unsigned number, const struct sender_manners *manners,
                 uint64_t seed)
{
    *sender = (struct sender){
        .number = number, .manners = manners, .left = manners->datagrams,
        .peer = {
            .name = {
                .sin_family = AF_INET, .sin_port = htons((uint16_t)(PORT_FIRST + number)),
                .sin_addr.s_addr = htonl(0x0a000001 + number % 5),
            },
            .receive = receive,
        },
    };
    dice_init(&sender->dice, seed + number);
    datagrams_meet(&sender->peer);
    actor_init(&sender->actor, step);
    actor_wake(&sender->actor);
}
