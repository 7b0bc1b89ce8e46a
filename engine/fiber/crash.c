/*
 * crash.c - the report of a thread that crashes.
 *
 * The frames are found by the compiler's unwinder, which reads tables of the program's and of its
 * libraries. glibc finds these without a lock since 2.35. A stack that has been written over may
 * make the unwinder fault in turn, as a name or an address that is no pointer any more does whoever
 * reads it: each part of the report ends at such a fault, and the process ends by the first one.
 */
#include "engine/fiber/crash.h"

#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
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

static _Atomic(crash_find_scene *) find_scene;
static _Atomic bool is_told;

/*
 * Of a thread that is not weir's the first touch of a variable may allocate memory, in a program
 * that loads weir by dlopen(3): so these have their place from the start.
 */
#define IN_PLACE __attribute__((tls_model("initial-exec")))

static _Thread_local IN_PLACE const char *self_role;
static _Thread_local IN_PLACE sigjmp_buf *self_way_out;     /* of the part that is being told */

const char *crash_set_role(const char *role)
{
    const char *before = self_role;

    self_role = role;
    return before;
}

/* ------------------------------------------------------------------ faults of its own - */

void crash_go_on(int signal_number)
{
    if (self_way_out && (signal_number == SIGSEGV || signal_number == SIGBUS))
        siglongjmp(*self_way_out, 1);
}

/* Returns true if the part was told to its end. */
static bool tell_part(void (*tell)(void *arg), void *arg)
{
    sigjmp_buf way_out;

    if (sigsetjmp(way_out, 1) != 0) {
        self_way_out = NULL;
        return false;
    }
    self_way_out = &way_out;
    tell(arg);
    self_way_out = NULL;
    return true;
}

/* A fault that is blocked would end the process by a signal that is not the first. */
static void let_faults_come(sigset_t *ret_before)
{
    sigset_t faults;

    sigemptyset(&faults);
    sigaddset(&faults, SIGSEGV);
    sigaddset(&faults, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &faults, ret_before);
}

/* ------------------------------------------------------------------ where ------------- */

/* Where a context keeps what a report needs; NULL: nobody has said that of this CPU. */
struct place {
    uintptr_t *instruction;
    uintptr_t *stack_pointer;
};

static struct place place_of(void *context)
{
    ucontext_t *user = context;

#if defined(__x86_64__)
    return (struct place){ (uintptr_t *)&user->uc_mcontext.gregs[REG_RIP],
                           (uintptr_t *)&user->uc_mcontext.gregs[REG_RSP] };
#elif defined(__aarch64__)
    return (struct place){ (uintptr_t *)&user->uc_mcontext.pc,
                           (uintptr_t *)&user->uc_mcontext.sp };
#else
    (void)user;
    return (struct place){ NULL };
#endif
}

const void *crash_stack_pointer(const void *context)
{
    struct place place = place_of((void *)(uintptr_t)context);

    return place.stack_pointer ? (const void *)*place.stack_pointer : NULL;
}

/* Makes the context that of the call that has led to where it is. */
static void take_call_back(void *context)
{
    struct place place = place_of(context);

#if defined(__x86_64__)
    *place.instruction = *(const uintptr_t *)*place.stack_pointer;
    *place.stack_pointer += sizeof(uintptr_t);
#elif defined(__aarch64__)
    *place.instruction = ((ucontext_t *)context)->uc_mcontext.regs[30];
#endif
    (void)place;
}

#ifdef DLFO_STRUCT_HAS_EH_DBASE
/* A file's data lies beside its code, and gaps that can't be read: its program headers tell. */
static bool is_in_code_of(const struct dl_find_object *object, uintptr_t instruction)
{
    const ElfW(Ehdr) *file = object->dlfo_map_start;
    const ElfW(Phdr) *segments = (const void *)((const char *)file + file->e_phoff);
    uintptr_t offset = instruction - object->dlfo_link_map->l_addr;

    if (memcmp(file->e_ident, ELFMAG, SELFMAG) != 0)
        return false;
    for (unsigned i = 0; i < file->e_phnum; i++)
        if (segments[i].p_type == PT_LOAD && (segments[i].p_flags & PF_X) &&
            offset - segments[i].p_vaddr < segments[i].p_memsz)
            return true;
    return false;
}
#endif

bool crash_is_code(uintptr_t instruction)
{
#ifdef DLFO_STRUCT_HAS_EH_DBASE
    struct dl_find_object found;

    return _dl_find_object((void *)instruction, &found) == 0 && is_in_code_of(&found, instruction);
#else
    return instruction != 0;
#endif
}

/*
 * The file that an instruction is in, and its address there: what addr2line(1) asks for. Returns
 * false if it is in none, or nobody can say.
 */
static bool put_file(struct last_words *line, uintptr_t instruction, bool with_folder)
{
#ifdef DLFO_STRUCT_HAS_EH_DBASE
    struct dl_find_object found;
    const char *name, *slash;

    if (_dl_find_object((void *)instruction, &found) != 0)
        return false;
    name = *found.dlfo_link_map->l_name ? found.dlfo_link_map->l_name
                                        : program_invocation_short_name;
    slash = with_folder ? NULL : strrchr(name, '/');
    last_words_text(line, " ");
    last_words_label(line, slash ? slash + 1 : name);
    last_words_text(line, "+0x");
    last_words_hex(line, instruction - found.dlfo_link_map->l_addr);
    return true;
#else
    (void)line;
    (void)instruction;
    (void)with_folder;
    return false;
#endif
}

/* Without its folder: a line has several of these. */
void crash_put_place(struct last_words *line, uintptr_t instruction)
{
    if (put_file(line, instruction, false))
        return;
    last_words_text(line, " 0x");
    last_words_hex(line, instruction);
}

/* ------------------------------------------------------------------ frames ------------ */

struct walk {
    uintptr_t from;             /* the instruction that faulted, or was interrupted */
    bool is_past;               /* its frame has been met */
    unsigned told;
    uintptr_t *noted;           /* they are not told but noted here; NULL: they are */
    unsigned max;
};

static bool tell_frame(struct walk *walk, uintptr_t instruction)
{
    struct last_words line = { .len = 0 };

    if (walk->noted) {
        walk->noted[walk->told++] = instruction;
        return walk->told < walk->max;
    }
    last_words_text(&line, "weir:   #");
    last_words_number(&line, walk->told++);
    last_words_text(&line, " 0x");
    last_words_hex(&line, instruction);
    put_file(&line, instruction, true);
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
    /* Some begin their threads so. */
    if (instruction == 0)
        return _URC_END_OF_STACK;
    /* A call may be its function's last instruction: the address behind it is another's. */
    return tell_frame(walk, is_exact ? instruction : instruction - 1) ? _URC_NO_REASON
                                                                     : _URC_END_OF_STACK;
}

unsigned crash_frames_here(void *context, uintptr_t *ret, unsigned max)
{
    struct place place = place_of(context);
    struct walk walk = { .noted = ret, .max = max };

    if (!place.instruction)
        return 0;
    walk.from = *place.instruction;
    if (tell_frame(&walk, walk.from))
        _Unwind_Backtrace(on_frame, &walk);
    return walk.told;
}

static void tell_frames(void *context)
{
    struct place place = place_of(context);
    struct walk walk = { .from = *place.instruction };

    /* That one is known even if it is none, as where NULL has been called ... */
    if (!tell_frame(&walk, walk.from))
        return;
    /* ... of which the unwinder has no table, and so would not find the caller. */
    if (!crash_is_code(walk.from)) {
        take_call_back(context);
        walk.from = *place.instruction;
        if (!tell_frame(&walk, walk.from - 1))
            return;
    }
    _Unwind_Backtrace(on_frame, &walk);
}

static void tell_that_frames_end(void)
{
    struct last_words line = { .len = 0 };

    last_words_text(&line, "weir:   more can't be told: the stack is damaged\n");
    (void)!last_words_say(&line);
}

/* The context is read by the unwinder, and is as it was when this returns. */
static void tell_frames_of(void *context)
{
    struct place place = place_of(context);
    uintptr_t instruction = *place.instruction;
    uintptr_t stack_pointer = *place.stack_pointer;

    if (!tell_part(tell_frames, context))
        tell_that_frames_end();
    *place.instruction = instruction;
    *place.stack_pointer = stack_pointer;
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

static void put_peer(struct last_words *line, const struct crash_scene *scene)
{
    sa_family_t family = scene->peer.ss_family;

    if (scene->peer_len == 0)
        return;
    last_words_text(line, ", which serves ");
    if (family == AF_INET || family == AF_INET6)
        put_address(line, &scene->peer);
    else
        last_words_text(line, "a Unix peer");
}

void crash_find_scenes_by(crash_find_scene *find)
{
    /* relaxed: before any thread of a pool. pairs: none */
    atomic_store_explicit(&find_scene, find, memory_order_relaxed);
}

/* NULL: the thread is on no fiber. */
static void find_scene_of(const struct fiber *fiber, struct crash_scene *scene)
{
    /* relaxed: as above. pairs: none */
    crash_find_scene *find = atomic_load_explicit(&find_scene, memory_order_relaxed);

    if (find && (!fiber || fiber_task(fiber)))
        find(fiber ? fiber_task(fiber) : NULL, scene);
}

void crash_scene_here(const void *context, struct crash_scene *ret)
{
    size_t size;
    void *top = stack_holding(crash_stack_pointer(context), &size);

    *ret = (struct crash_scene){ .place = self_role };
    find_scene_of(top ? fiber_on_stack(top) : NULL, ret);
}

struct telling {
    struct last_words line;
    const struct fiber *fiber;          /* NULL: the thread is on none */
    struct crash_scene scene;
};

static void find_out(void *arg)
{
    struct telling *telling = arg;

    find_scene_of(telling->fiber, &telling->scene);
}

static void put_scene(void *arg)
{
    struct telling *telling = arg;
    struct last_words *line = &telling->line;

    last_words_text(line, " in ");
    last_words_text(line, telling->scene.place);
    if (telling->fiber || telling->scene.handler) {
        last_words_text(line, " '");
        last_words_label(line, telling->scene.handler);
        last_words_text(line, "'");
    }
    put_peer(line, &telling->scene);
}

/* ------------------------------------------------------------------ the report -------- */

static void tell_who(int signal_number, const siginfo_t *info, const struct fiber *fiber)
{
    struct telling telling = { .fiber = fiber, .scene.place = self_role };
    struct last_words *line = &telling.line;

    if (fiber) {
        telling.scene.place = "handler";
        telling.scene.handler = fiber_label(fiber);
    }
    last_words_text(line, "weir: SIG");
    last_words_text(line, sigabbrev_np(signal_number));     /* safe in a signal handler */
    if (info->si_code > 0 && (signal_number == SIGSEGV || signal_number == SIGBUS)) {
        last_words_text(line, " at address 0x");
        last_words_hex(line, (uintptr_t)info->si_addr);
    }
    (void)!tell_part(find_out, &telling);
    (void)!tell_part(put_scene, &telling);
    last_words_text(line, "\n");
    (void)!last_words_say(line);
}

/* Returns true if the thread has done it to itself: an instruction, abort(3), raise(3). */
static bool is_own_doing(const siginfo_t *info)
{
    return info->si_code > 0 || (info->si_code == SI_TKILL && info->si_pid == getpid());
}

static void tell_all(int signal_number, const siginfo_t *info, const struct fiber *fiber,
                     void *context)
{
    sigset_t before;

    let_faults_come(&before);
    tell_who(signal_number, info, fiber);
    if (place_of(context).instruction)
        tell_frames_of(context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void crash_tell(int signal_number, const siginfo_t *info, void *context)
{
    int error = errno;
    size_t size;
    void *top = stack_holding(crash_stack_pointer(context), &size);

    if ((!top && !self_role) || !is_own_doing(info))
        return;
    /* relaxed: of several threads that crash at once, one tells. pairs: none */
    if (atomic_exchange_explicit(&is_told, true, memory_order_relaxed))
        (void)!poll(NULL, 0, PATIENCE_MS);
    else
        tell_all(signal_number, info, top ? fiber_on_stack(top) : NULL, context);
    errno = error;
}
