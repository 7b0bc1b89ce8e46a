/* serve.h - `weir serve`: runs bundled handlers until a signal ends it. */
#ifndef WEIR_TOOLS_SERVE_H
#define WEIR_TOOLS_SERVE_H

/* weir_serve is the command; argv[0] is "serve". Returns the process's exit status. */
int weir_serve(int argc, char **argv);

#endif
