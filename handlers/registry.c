/*
 * registry.c - the one place that knows every bundled handler.
 */
#include "handlers/registry.h"

#include <string.h>

#include "handlers/echo.h"
#include "handlers/hello.h"
#include "handlers/upper.h"

const struct registry_entry registry[] = {
    { &echo_handler, "sends back what comes, as it comes" },
    { &hello_handler, "HTTP/1.1: says hello at \"/\"" },
    { &upper_handler, "answers each line with the line in capitals" },
};

const size_t registry_len = sizeof(registry) / sizeof(registry[0]);

const struct registry_entry *registry_find(const char *name)
{
    for (size_t i = 0; i < registry_len; i++)
        if (strcmp(registry[i].handler->name, name) == 0)
            return &registry[i];
    return NULL;
}
