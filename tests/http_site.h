/*
 * http_site.h - a site that has a route for each thing that a client could want to see done.
 *
 * Threads: any.
 */
#ifndef WEIR_TESTS_HTTP_SITE_H
#define WEIR_TESTS_HTTP_SITE_H

#include "handlers/http/http.h"

extern const struct weir_handler http_site_handler;

#endif
