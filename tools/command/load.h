/* load.h - `weir load`: asks a server as many clients would, and says how it answered. */
#ifndef WEIR_TOOLS_LOAD_H
#define WEIR_TOOLS_LOAD_H

/* weir_load is the command; argv[0] is "load". Returns the process's exit status. */
int weir_load(int argc, char **argv);

#endif
