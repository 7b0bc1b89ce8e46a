/* load_report.h - the result of `weir load`, for people and for programs. */
#ifndef WEIR_TOOLS_LOAD_REPORT_H
#define WEIR_TOOLS_LOAD_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "tools/command/load_settings.h"

struct load_report {
    const struct load_settings *settings;
    const struct load_result *result;
    bool interrupted;
};

void load_report_table(const struct load_report *report, FILE *to);
void load_report_json(const struct load_report *report, FILE *to);

#endif
