/*
 * load_line.h - the lines, or datagrams, that are asked and have to come back.
 *
 * Threads: any; a line is its caller's.
 */
#ifndef WEIR_LOAD_LINE_H
#define WEIR_LOAD_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/load/load_lane.h"

/* The length of the lane's lines. */
size_t line_len(const struct lane *lane);

/* Makes a line's text, without a number. */
void line_init(char *line, size_t len);

/* Writes a number into a line: no two that are under way at once are the same. */
void line_stamp(char *line, uint32_t number);

/* False: there is no number where line_stamp wrote one. */
bool line_number(const char *line, uint32_t *ret_number);

/* Makes of a line what has to come back. */
void line_answer(char *line, size_t len, enum load_mode mode);

#endif
