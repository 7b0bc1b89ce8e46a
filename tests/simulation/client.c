#include "tests/simulation/client.h"

#include "tests/simulation/report.h"
#include "tests/simulation/trace.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CONVERSATIONS 4096
#define PIECE_MAX 4096

/* Of a connection, in both directions; then it comes to its end. */
#define BYTES_MAX (96 << 10)

/* A client has so long to take what is left: see engine/stream/linger.c. */
#define LINGER_MS 2000

struct client_excuses client_excuses;
const char clients_reason;
uint64_t clients_answered;
size_t client_buffer_len;

static struct conversation conversations[CONVERSATIONS];
static unsigned conversations_len, clients_left;
static bool hurried;

void clients_expect(unsigned n)
{
    clients_left = n;
}

bool clients_are_done(void)
{
    return clients_left == 0;
}

void clients_hurry(void)
{
    hurried = true;
}

static void note(const struct client *client, const char *format, long a, long b)
{
    trace_note("client", client->number, format, a, b, 0);
}

/* ------------------------------------------------------------------ phrases ----------- */

static size_t request_len(const struct phrase *phrase)
{
    return phrase->http ? http_request_len(phrase) : phrase_request_len(phrase);
}

static unsigned char request_byte(const struct phrase *phrase, size_t i)
{
    return phrase->http ? http_request_byte(phrase, i) : phrase_request_byte(phrase, i);
}

static bool ends_connection(const struct phrase *phrase)
{
    return phrase->http ? http_reply_ends(phrase) : phrase->what == SAY_ENDED;
}

/* ------------------------------------------------------------------ when it acts ------ */

static uint64_t think_ns(struct client *client)
{
    const struct client_manners *manners = client->manners;

    if (!hurried && dice_once_in(&client->dice, manners->pause_in))
        return dice_around(&client->dice, manners->pause_ns);
    return manners->think_ns > 0 && !hurried ? dice_around(&client->dice, manners->think_ns) : 0;
}

static void act_again(struct client *client)
{
    uint64_t wait_ns = think_ns(client);

    if (wait_ns == 0)
        actor_wake(&client->actor);
    else
        actor_wake_at(&client->actor, scheduler_now_ns() + wait_ns);
}

/* ------------------------------------------------------------------ the connection ---- */

void client_is_done(void)
{
    clients_left--;
    scheduler_wake(&clients_reason, true);
}

static void finish_client(struct client *client)
{
    client->done = true;
    client_is_done();
}

static void let_go(struct client *client, const char *why)
{
    note(client, why, client->talk->number, 0);
    stream_let_go(client->stream);
    client->stream = NULL;
    client->attentive = false;
    if (client->connections_left == 0)
        finish_client(client);
    else
        act_again(client);
}

static void on_change(struct stream *stream)
{
    const struct conversation *talk = stream->user;
    struct client *client = talk->client;

    /* A client that thinks hears of it when it has. */
    if (!client->attentive)
        return;
    client->attentive = false;
    act_again(client);
}

static uint16_t port_of(const struct client *client)
{
    const struct client_manners *manners = client->manners;

    return manners->other_port > 0 && client->number % 2 == 1 ? manners->other_port
                                                              : manners->port;
}

static bool begin_connection(struct client *client)
{
    struct sockaddr_in name = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)(30000 + client->number)),
        .sin_addr.s_addr = htonl(0x0a000001 + client->number % 5),
    };
    struct conversation *talk;

    client->connections_left--;
    if (conversations_len == CONVERSATIONS)
        return false;
    talk = &conversations[conversations_len];
    *talk = (struct conversation){ .number = conversations_len, .client = client,
                                    .client_first = client->manners->client_first };
    client->stream = stream_connect(port_of(client), &name, talk);
    if (!client->stream)
        return false;
    conversations_len++;
    client->talk = talk;
    client->stream->on_change = on_change;
    client->requests_left = (uint32_t)dice_around(&client->dice, client->manners->requests);
    client->asked = client->sent = client->answered = 0;
    client->sent_of_it = client->answered_of_it = 0;
    client->owed = 0;
    client->leaving = false;
    client->invited = 0;
    http_reader_begin(&client->reader, talk->number);
    client->active_ns = scheduler_now_ns();
    client->connected_ns = scheduler_now_ns();
    note(client, "connects, conversation %ld", talk->number, 0);
    return true;
}

/* ------------------------------------------------------------------ asking ------------ */

static struct phrase *phrase_at(struct client *client, uint32_t i)
{
    return &client->phrases[i % CLIENT_PHRASES];
}

static uint32_t number_for(struct client *client, char what)
{
    const struct client_manners *manners = client->manners;

    switch (what) {
    case SAY_BIG:
    case SAY_BOTH:
    case SAY_FILE:
    case SAY_PARTS:
    case SAY_OLD_STREAM:
        return (uint32_t)dice_around(&client->dice, manners->big_len) % 100000;
    case SAY_RAW:
    case SAY_PEEK:
    case SAY_EXPECT:
    case SAY_REFUSED:
    case SAY_UNREAD:
        return 1 + (uint32_t)dice_around(&client->dice, manners->big_len) % 2000;
    case SAY_SLEEP:
    case SAY_COMPUTE:
    case SAY_OFFLOAD:
    case SAY_POLL:
    case SAY_SHARE:
        return (uint32_t)dice_around(&client->dice, manners->wait_ms);
    case SAY_ASK:
        return 1 + (uint32_t)dice_around(&client->dice, 20);
    default:
        return 0;
    }
}

static void think_of_phrase(struct client *client)
{
    const struct client_manners *manners = client->manners;
    char what = manners->says[dice_below(&client->dice, strlen(manners->says))];
    struct phrase *phrase = phrase_at(client, client->asked++);

    *phrase = (struct phrase){
        .what = what, .number = number_for(client, what),
        .text_len = 1 + (uint32_t)dice_around(&client->dice, manners->text_len) % 1500,
        .salt = (uint32_t)dice_below(&client->dice, 1000), .http = manners->http,
    };
    if (ends_connection(phrase) && client->requests_left > 1 && !dice_once_in(&client->dice, 8))
        phrase->what = SAY_ECHO;
    client->requests_left--;
    /* A run is to be short: another seed shows more than more of the same. */
    if (client->stream->sent + client->stream->received > BYTES_MAX)
        client->requests_left = 0;
}

/* Returns true if the rest of the phrase waits for an invitation (HTTP: Expect). */
static bool waits_for_word(struct client *client, uint32_t at, size_t of_it)
{
    const struct phrase *phrase = phrase_at(client, at);

    return phrase->http && client->invited <= at && of_it == http_request_pause(phrase);
}

/* As much as goes. False: the connection is broken. */
static bool send_some(struct client *client, bool *ret_did)
{
    unsigned char piece[PIECE_MAX];
    size_t most = dice_around(&client->dice, client->manners->piece);
    uint32_t sent = client->sent;
    size_t of_it = client->sent_of_it;
    size_t len = 0;
    ssize_t n;

    while (len < sizeof(piece) && len < most && sent < client->asked &&
           !waits_for_word(client, sent, of_it)) {
        piece[len++] = request_byte(phrase_at(client, sent), of_it++);
        if (of_it < request_len(phrase_at(client, sent)))
            continue;
        of_it = 0;
        sent++;
    }
    n = stream_send(client->stream, piece, len);
    note(client, "sends %ld: %ld", (long)len, n);
    if (n < 0)
        return n == -EAGAIN;
    *ret_did = true;
    if (dice_once_in(&client->dice, client->manners->descriptors_in))
        stream_send_descriptors(client->stream);
    client->active_ns = scheduler_now_ns();
    client->sent_of_it += (size_t)n;
    while (client->sent < client->asked &&
           client->sent_of_it >= request_len(phrase_at(client, client->sent))) {
        client->whole_ns[client->sent % CLIENT_PHRASES] = scheduler_now_ns();
        client->sent_of_it -= request_len(phrase_at(client, client->sent++));
    }
    return true;
}

/* ------------------------------------------------------------------ answers ----------- */

static void note_answer(struct client *client)
{
    client->answered_of_it = 0;
    client->answered++;
    clients_answered++;
}

/* The server counts whole milliseconds, of which the first may be begun already. */
static bool drain_is_overdue(const struct client_excuses *excuses)
{
    uint64_t stopped_for_ns = scheduler_now_ns() - excuses->stopped_ns;

    return excuses->stopped_ns != 0 && excuses->drain_ms > 0 &&
           stopped_for_ns + MS_NS >= excuses->drain_ms * MS_NS;
}

static void note_least(uint64_t *least_ns, uint64_t ns)
{
    if (ns > 0 && ns < *least_ns)
        *least_ns = ns;
}

/*
 * How long a call of handle() lasts at least before a read tells that its client is late. Each wait
 * may round off a part of progress_timeout_ms, and the turn of a millisecond counts as one.
 */
static uint64_t shortest_read_ns(const struct client_excuses *excuses)
{
    uint64_t least_ns = SCHEDULER_NEVER;

    note_least(&least_ns, excuses->read_ms * MS_NS);
    note_least(&least_ns, excuses->head_ms * MS_NS);
    note_least(&least_ns, excuses->request_ms * MS_NS);
    if (excuses->progress_ms > 0)
        note_least(&least_ns, 1 + (excuses->progress_ms - 1) * MS_NS / 2);
    return least_ns;
}

/*
 * For how long at most the server had been at what it sent last, when it did: its page, if that is
 * one. A request's deadline is set before handle() is called.
 */
static uint64_t handled_ns(const struct client *client)
{
    const struct conversation *talk = client->talk;

    return client->stream->arrived_ns - talk->handled_since_ns + talk->handled_late_ns;
}

/*
 * 408: a read has waited for as long as its timeouts say, and the request was not whole by then. A
 * request's own deadline ends also a read that has something to take.
 */
static bool may_time_out(const struct client *client)
{
    const struct client_excuses *excuses = &client_excuses;
    uint64_t least_ns = shortest_read_ns(excuses);
    bool was_whole = client->sent > client->answered &&
                     client->whole_ns[client->answered % CLIENT_PHRASES] <
                         client->talk->handled_since_ns + least_ns;

    return handled_ns(client) >= least_ns && (!was_whole || excuses->request_ms > 0);
}

/* 500: the callback's own wait (weir_sleep, weir_poll) has outlived the deadline of the request. */
static bool may_fail_late(const struct client *client)
{
    uint64_t ms = client_excuses.request_ms;

    return ms > 0 && handled_ns(client) >= ms * MS_NS;
}

static void check_http_byte(struct client *client, unsigned char byte)
{
    const struct client_excuses *excuses = &client_excuses;
    const struct phrase *phrase = client->answered < client->asked
                                      ? phrase_at(client, client->answered) : NULL;
    struct http_licence licence = {
        .may_close = excuses->stopped_ns != 0 || excuses->cancelled,
        .may_time_out = may_time_out(client),
        .may_fail = excuses->faults || excuses->cancelled || drain_is_overdue(excuses) ||
                    may_fail_late(client),
        .may_refuse = excuses->limits || excuses->faults,
    };

    client->answered_of_it++;
    if (http_reader_take(&client->reader, phrase, &licence, byte))
        note_answer(client);
    else if (client->reader.invited)
        client->invited = client->answered + 1;
}

static void check_byte(struct client *client, unsigned char byte)
{
    const struct phrase *phrase = phrase_at(client, client->answered);

    if (client->manners->http) {
        check_http_byte(client, byte);
        return;
    }
    if (client->answered == client->asked)
        report_failure("client %u, conversation %u: a byte that it has not asked for: %d",
                       client->number, client->talk->number, byte);
    if (byte != phrase_reply_byte(phrase, client->answered_of_it))
        report_failure("client %u, conversation %u: byte %zu of the answer to request %u ('%c') "
                       "is %d, and not %d", client->number, client->talk->number,
                       client->answered_of_it, client->answered, phrase->what, byte,
                       phrase_reply_byte(phrase, client->answered_of_it));
    if (++client->answered_of_it == phrase_reply_len(phrase))
        note_answer(client);
}

/* How many whole requests the server's kernel has. */
static bool owes_nothing(const struct client *client)
{
    return client->answered == client->sent && client->sent_of_it == 0;
}

/* Returns true if a deadline of the server's may have passed since the client has connected. */
static bool outlived(const struct client *client, uint32_t ms)
{
    return ms > 0 && scheduler_now_ns() - client->connected_ns + 12 * MS_NS >= ms * MS_NS;
}

static bool was_told_to_end(const struct client *client)
{
    uint32_t last = client->answered;

    if (last == 0 || client->answered_of_it > 0)
        return false;
    return client->manners->http ? client->reader.said_end
                                 : ends_connection(&client->phrases[(last - 1) % CLIENT_PHRASES]);
}

/*
 * A client that does not take in time what its handler has said last may lose it; behind a stop, if
 * it has sent on, and a reset has told it that nobody is there.
 */
static bool may_lose_the_end(const struct client *client)
{
    const struct conversation *talk = client->talk;
    bool was_cut_off = client_excuses.stopped_ns != 0 && client->stream->was_reset;

    return (talk->was_told_to_end || was_cut_off) && talk->finishes > 0 &&
           (client_excuses.nobody_lingers ||
            scheduler_now_ns() - talk->ended_ns >= LINGER_MS * MS_NS);
}

static bool is_excused(const struct client *client)
{
    const struct client_excuses *excuses = &client_excuses;
    const struct conversation *talk = client->talk;

    if (excuses->faults || excuses->limits || excuses->cancelled || talk->timed_out ||
        talk->turned_away ||
        (talk->cancelled && excuses->stopped_ns != 0) || was_told_to_end(client) ||
        may_lose_the_end(client))
        return true;
    if (excuses->stopped_ns != 0 &&
        (client->answered >= client->owed || drain_is_overdue(excuses)))
        return true;
    if (outlived(client, excuses->idle_ms) || outlived(client, excuses->read_ms) ||
        outlived(client, excuses->request_ms) || outlived(client, excuses->head_ms) ||
        (outlived(client, excuses->progress_ms) && client->manners->http) ||
        ((outlived(client, excuses->write_ms) || outlived(client, excuses->progress_ms)) &&
         client->stream->peer_lacked_room))
        return true;
    return false;
}

/* The server has ended it. */
static void check_end(struct client *client, ssize_t n)
{
    bool whole = client->answered == client->asked && client->requests_left == 0;

    note(client, "sees the end, %ld of %ld answered", client->answered, client->asked);
    if (n < 0 && n != -ECONNRESET && n != -EPIPE)
        report_failure("client %u reads: %zd", client->number, n);
    if (whole && client->leaving)
        return;
    if (!is_excused(client))
        report_failure("client %u, conversation %u: the connection ends (%zd) after %u answers to "
                       "%u requests, of which %u were sent (%u owed at a stop), and nobody "
                       "has told why",
                       client->number, client->talk->number, n, client->answered, client->asked,
                       client->sent, client->owed);
}

/* False: it is over. */
static bool read_some(struct client *client, bool *ret_did)
{
    unsigned char piece[PIECE_MAX];
    size_t most = dice_around(&client->dice, client->manners->piece);
    ssize_t n = stream_receive(client->stream, piece, most < PIECE_MAX ? most : PIECE_MAX);

    if (n == -EAGAIN)
        return true;
    *ret_did = true;
    note(client, "reads: %ld", n, 0);
    if (n <= 0) {
        check_end(client, n);
        return false;
    }
    client->active_ns = scheduler_now_ns();
    for (ssize_t i = 0; i < n; i++)
        check_byte(client, piece[i]);
    return true;
}

/* ------------------------------------------------------------------ a step ------------ */

static bool wants_to_send(struct client *client)
{
    const struct client_manners *manners = client->manners;
    uint32_t open = client->asked - client->answered;
    uint32_t most = manners->pipelined < CLIENT_PHRASES ? manners->pipelined : CLIENT_PHRASES - 1;

    if (client->leaving)
        return false;
    if (client->sent == client->asked && client->requests_left > 0 && open < most)
        think_of_phrase(client);
    return client->sent < client->asked &&
           !waits_for_word(client, client->sent, client->sent_of_it);
}

static bool has_asked_all(const struct client *client)
{
    return client->requests_left == 0 && client->sent == client->asked;
}

/* All is asked, and perhaps answered: how it goes. True: the connection is no more. */
static bool comes_to_its_end(struct client *client)
{
    if (!has_asked_all(client) || client->leaving)
        return false;
    if (dice_once_in(&client->dice, client->manners->half_close_in) ||
        (owes_nothing(client) && dice_once_in(&client->dice, 2))) {
        note(client, "says its end", 0, 0);
        client->leaving = true;
        stream_end(client->stream);
        return false;
    }
    if (!owes_nothing(client))
        return false;
    let_go(client, "closes, all being answered, conversation %ld");
    return true;
}

static bool leaves_early(struct client *client)
{
    if (hurried)
        return false;
    if (dice_once_in(&client->dice, client->manners->reset_in)) {
        stream_reset(client->stream);
        let_go(client, "resets conversation %ld");
        return true;
    }
    if (dice_once_in(&client->dice, client->manners->leave_in)) {
        let_go(client, "leaves conversation %ld");
        return true;
    }
    return false;
}

/* Now, or when all others do. */
static void connect_in_time(struct client *client)
{
    uint64_t rush_ns = client->manners->rush_ns;

    client->in_rush = !client->in_rush && rush_ns > 0 && !hurried;
    if (client->in_rush) {
        actor_wake_at(&client->actor, (scheduler_now_ns() / rush_ns + 1) * rush_ns);
        return;
    }
    begin_connection(client);
    act_again(client);
}

static void step(struct actor *actor)
{
    struct client *client = (struct client *)actor;
    bool goes_on, did = false;

    if (client->done)
        return;
    if (!client->stream) {
        if (client->connections_left == 0) {
            finish_client(client);
            return;
        }
        connect_in_time(client);
        return;
    }
    if (leaves_early(client))
        return;
    goes_on = read_some(client, &did);
    if (goes_on && wants_to_send(client) && !send_some(client, &did))
        /* What the server has sent before is still there to be read. */
        client->leaving = did = true;
    if (!goes_on) {
        let_go(client, "is done with conversation %ld");
        return;
    }
    if (comes_to_its_end(client))
        return;
    if (did || stream_unread(client->stream) > 0 || client->stream->end_received)
        act_again(client);
    else
        client->attentive = true;
}

void client_init(struct client *client, unsigned number, const struct client_manners *manners,
                 uint64_t seed)
{
    *client = (struct client){
        .number = number, .manners = manners, .connections_left = manners->connections,
    };
    dice_init(&client->dice, seed + number);
    actor_init(&client->actor, step);
    act_again(client);
}

void client_give_up(struct client *client)
{
    client->connections_left = 0;
    if (!client->stream && !client->done)
        actor_wake(&client->actor);
}

/* Of the bytes that this client has sent: how many whole requests are the first len. */
static uint32_t requests_within(const struct client *client, uint64_t len)
{
    uint64_t end = client->stream->sent - client->sent_of_it;
    uint32_t n = client->sent;

    while (n > client->answered && end > len)
        end -= request_len(&client->phrases[--n % CLIENT_PHRASES]);
    return n;
}

/* Returns true if the server has read whole requests, and nothing of a further one. */
static bool is_read_to_an_end(const struct client *client)
{
    uint64_t read = client->stream->peer->read;
    uint64_t end = client->stream->sent - client->sent_of_it;

    for (uint32_t n = client->sent; end > read && n > client->answered; n--)
        end -= request_len(&client->phrases[(n - 1) % CLIENT_PHRASES]);
    return end == read;
}

/* A look more takes so much, or as far as to descriptors that came along. */
static void owe(struct client *client, size_t more)
{
    const struct stream *server = client->stream->peer;
    uint64_t cut = server->cut > server->read ? server->cut : UINT64_MAX;
    uint64_t len = server->read + more < cut ? server->read + more : cut;
    uint32_t requests = requests_within(client, len);

    if (client->owed < requests)
        client->owed = requests;
    note(client, "is owed %ld answers, up to byte %ld", client->owed, (long)len);
}

/* What has been read; and where nobody is in the midst of it, what a read buffer takes. */
void client_note_stop(struct client *client)
{
    const struct stream *server = client->stream ? client->stream->peer : NULL;

    if (!server)
        return;
    owe(client, client->talk->phase == PHASE_IDLE ? client_buffer_len : 0);
}

/* It looks once more when all is taken that it has read before. */
void client_note_last(struct conversation *talk)
{
    struct client *client = talk->client;
    const struct stream *server = client->stream ? client->stream->peer : NULL;

    /* The client may have left, and come again. */
    if (!server || client->talk != talk)
        return;
    owe(client, is_read_to_an_end(client) ? client_buffer_len : 0);
}

void client_print(const struct client *client)
{
    const struct stream *stream = client->stream;
    const struct stream *peer = stream ? stream->peer : NULL;

    printf("client %u: %s, %u connections to come\n", client->number,
           client->done ? "done" : "not done", client->connections_left);
    if (!stream)
        return;
    printf("  conversation %u, phase %d: asked %u, sent %u and %zu bytes, answered %u and "
           "%zu bytes, "
           "%u to come%s%s\n", client->talk->number, client->talk->phase, client->asked,
           client->sent, client->sent_of_it, client->answered, client->answered_of_it,
           client->requests_left, client->attentive ? ", attentive" : "",
           client->leaving ? ", leaving" : "");
    printf("  unread here %zu, there %zu of %zu; ended here %d, there %d\n", stream_unread(stream),
           peer ? stream_unread(peer) : 0, stream->size, stream->end_received,
           peer ? peer->end_received : -1);
}
