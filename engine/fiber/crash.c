/*
 * crash.c - the report of a handler that crashes.
 *
 * The frames are found by the compiler's unwinder, which reads tables of the program's and of its
 * libraries. glibc finds these without a lock since 2.35. A stack that has been written over may
 * make the unwinder fault in turn: so the line that says most goes first. The second fault finds
 * its signal blocked, and ends the process as the first would have.
 */
#include "engine/fiber/crash.h"

#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include "engine/fiber/fiber.h"
#include "engine/fiber/last_words.h"
#include "engine/fiber/stack.h"

#ifdef DLFO_STRUCT_HAS_EH_DBASE
#include <link.h>
#endif

/* Of one report. A handler that recurses has more, and the first ones tell. */
#define FRAMES_MAX 48

/* For the thread that was first to crash: it ends the process. */
#define PATIENCE_MS 2000

static _Atomic(crash_find_peer *) find_peer;
static _Atomic bool is_told;

/* ------------------------------------------------------------------ where ------------- */

struct place {
    uintptr_t instruction;
    uintptr_t stack_pointer;    /* 0: nobody has said where this CPU keeps it */
};

static struct place place_of(const void *context)
{
    const ucontext_t *user = context;

#if defined(__x86_64__)
    return (struct place){ (uintptr_t)user->uc_mcontext.gregs[REG_RIP],
                           (uintptr_t)user->uc_mcontext.gregs[REG_RSP] };
#elif defined(__aarch64__)
    return (struct place){ user->uc_mcontext.pc, user->uc_mcontext.sp };
#else
    (void)user;
    return (struct place){ 0 };
#endif
}

/* The file that an instruction is in, and its address there: what addr2line(1) asks for. */
static void put_file(struct last_words *line, uintptr_t instruction)
{
#ifdef DLFO_STRUCT_HAS_EH_DBASE
    struct dl_find_object found;

    if (_dl_find_object((void *)instruction, &found) != 0)
        return;
    last_words_text(line, " ");
    if (*found.dlfo_link_map->l_name)
        last_words_label(line, found.dlfo_link_map->l_name);
    else
        last_words_label(line, program_invocation_short_name);
    last_words_text(line, "+0x");
    last_words_hex(line, instruction - found.dlfo_link_map->l_addr);
#else
    (void)line;
    (void)instruction;
#endif
}

/* ------------------------------------------------------------------ frames ------------ */

struct walk {
    uintptr_t from;             /* the instruction that faulted */
    bool is_past;               /* its frame has been met */
    unsigned told;
};

static bool tell_frame(struct walk *walk, uintptr_t instruction)
{
    struct last_words line = { .len = 0 };

    last_words_text(&line, "weir:   #");
    last_words_number(&line, walk->told++);
    last_words_text(&line, " 0x");
    last_words_hex(&line, instruction);
    put_file(&line, instruction);
    last_words_text(&line, "\n");
    return last_words_say(&line) && walk->told < FRAMES_MAX;
}

/* The innermost frames are the signal handler's: they are passed over. */
static _Unwind_Reason_Code on_frame(struct _Unwind_Context *frame, void *arg)
{
    struct walk *walk = arg;
    int is_exact = 0;
    uintptr_t instruction = _Unwind_GetIPInfo(frame, &is_exact);

    if (!walk->is_past) {
        walk->is_past = instruction == walk->from;
        return _URC_NO_REASON;
    }
    /* A call may be its function's last instruction: the address behind it is another's. */
    return tell_frame(walk, is_exact ? instruction : instruction - 1) ? _URC_NO_REASON
                                                                     : _URC_END_OF_STACK;
}

static void tell_frames(uintptr_t instruction)
{
    struct walk walk = { .from = instruction };

    /* That one is known even if it is none, as where NULL has been called. */
    if (tell_frame(&walk, instruction))
        _Unwind_Backtrace(on_frame, &walk);
}

/* ------------------------------------------------------------------ who --------------- */

static void put_ipv4(struct last_words *line, const unsigned char *host)
{
    for (unsigned i = 0; i < 4; i++) {
        last_words_text(line, i > 0 ? "." : "");
        last_words_number(line, host[i]);
    }
}

static void put_ipv6(struct last_words *line, const unsigned char *host)
{
    last_words_text(line, "[");
    for (unsigned i = 0; i < 16; i += 2) {
        last_words_text(line, i > 0 ? ":" : "");
        last_words_hex(line, (unsigned)host[i] << 8 | host[i + 1]);
    }
    last_words_text(line, "]");
}

static void put_address(struct last_words *line, const struct sockaddr_storage *peer)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)peer;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)peer;

    if (peer->ss_family == AF_INET)
        put_ipv4(line, (const unsigned char *)&in->sin_addr);
    else
        put_ipv6(line, (const unsigned char *)&in6->sin6_addr);
    last_words_text(line, ":");
    last_words_number(line, ntohs(peer->ss_family == AF_INET ? in->sin_port : in6->sin6_port));
}

static void put_peer(struct last_words *line, const struct fiber *fiber)
{
    /* relaxed: it was there before any fiber. pairs: none */
    crash_find_peer *find = atomic_load_explicit(&find_peer, memory_order_relaxed);
    struct sockaddr_storage peer = { .ss_family = AF_UNSPEC };

    if (!find || !fiber_task(fiber))
        return;
    find(fiber_task(fiber), &peer);
    last_words_text(line, ", which serves ");
    if (peer.ss_family == AF_INET || peer.ss_family == AF_INET6)
        put_address(line, &peer);
    else
        last_words_text(line, "a Unix peer");
}

void crash_find_peers_by(crash_find_peer *find)
{
    /* relaxed: as above. pairs: none */
    atomic_store_explicit(&find_peer, find, memory_order_relaxed);
}

/* ------------------------------------------------------------------ the report -------- */

static void tell_who(int signal_number, const siginfo_t *info, const struct fiber *fiber)
{
    struct last_words line = { .len = 0 };

    last_words_text(&line, "weir: SIG");
    last_words_text(&line, sigabbrev_np(signal_number));    /* safe in a signal handler */
    if (info->si_code > 0 && (signal_number == SIGSEGV || signal_number == SIGBUS)) {
        last_words_text(&line, " at address 0x");
        last_words_hex(&line, (uintptr_t)info->si_addr);
    }
    last_words_text(&line, " in handler '");
    last_words_label(&line, fiber_label(fiber));
    last_words_text(&line, "'");
    put_peer(&line, fiber);
    last_words_text(&line, "\n");
    (void)!last_words_say(&line);
}

/* Returns true if the thread has done it to itself: an instruction, abort(3), raise(3). */
static bool is_own_doing(const siginfo_t *info)
{
    return info->si_code > 0 || (info->si_code == SI_TKILL && info->si_pid == getpid());
}

void crash_tell(int signal_number, const siginfo_t *info, const void *context)
{
    struct place place = place_of(context);
    int error = errno;
    size_t size;
    void *top = stack_holding((const void *)place.stack_pointer, &size);

    if (!top || !is_own_doing(info))
        return;
    /* relaxed: of several threads that crash at once, one tells. pairs: none */
    if (atomic_exchange_explicit(&is_told, true, memory_order_relaxed)) {
        (void)!poll(NULL, 0, PATIENCE_MS);
    } else {
        tell_who(signal_number, info, fiber_on_stack(top));
        tell_frames(place.instruction);
    }
    errno = error;
}
