#include "tests/simulation/language.h"

static bool is_raw(const struct phrase *phrase)
{
    return phrase->what == SAY_RAW || phrase->what == SAY_PEEK;
}

/* So many bytes follow the line. */
static bool has_bytes(const struct phrase *phrase)
{
    return is_raw(phrase) || phrase->what == SAY_BOTH;
}

static bool is_big(const struct phrase *phrase)
{
    return phrase->what == SAY_BIG || phrase->what == SAY_PARTS || phrase->what == SAY_FILE ||
           phrase->what == SAY_BOTH;
}

static size_t line_len(const struct phrase *phrase)
{
    return LANGUAGE_HEAD + phrase->text_len + 1;
}

size_t phrase_request_len(const struct phrase *phrase)
{
    return line_len(phrase) + (has_bytes(phrase) ? phrase->number : 0);
}

size_t phrase_reply_len(const struct phrase *phrase)
{
    if (is_raw(phrase))
        return phrase->number;
    return is_big(phrase) ? phrase->number + 1 : line_len(phrase);
}

unsigned char language_text_byte(const struct phrase *phrase, size_t i)
{
    return (unsigned char)('a' + (phrase->salt + i * (1 + phrase->salt % 7)) % 26);
}

static unsigned char digit(uint32_t number, size_t i)
{
    static const uint32_t powers[] = { 100000, 10000, 1000, 100, 10, 1 };

    return (unsigned char)('0' + number / powers[i] % 10);
}

unsigned char phrase_request_byte(const struct phrase *phrase, size_t i)
{
    size_t line = line_len(phrase);

    if (i == 0)
        return (unsigned char)phrase->what;
    if (i < LANGUAGE_HEAD)
        return digit(phrase->number, i - 1);
    if (i >= line)
        return (unsigned char)(phrase->salt + (i - line));
    return i == line - 1 ? '\n' : language_text_byte(phrase, i - LANGUAGE_HEAD);
}

unsigned char language_big_byte(unsigned char first, size_t i)
{
    return (unsigned char)('A' + (first + i) % 26);
}

unsigned char phrase_reply_byte(const struct phrase *phrase, size_t i)
{
    if (is_raw(phrase))
        return phrase_request_byte(phrase, line_len(phrase) + i);
    if (!is_big(phrase))
        return phrase_request_byte(phrase, i);
    return i == phrase->number ? '\n' : language_big_byte(language_text_byte(phrase, 0), i);
}
