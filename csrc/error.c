/* The text of the last error, one per thread. */
#include "layer.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char text[512];
static _Thread_local const char *blamed = "";

const char *dn_last_error(void) { return text; }
const char *dn_last_error_key(void) { return blamed; }

dn_status dn_fail(dn_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    blamed = "";
    return status;
}

/* Puts the layer's place before the text of the error that has just been reported. */
dn_status dn_fail_in_layer(dn_status status, int index)
{
    char reason[sizeof text];
    memcpy(reason, text, sizeof text);
    snprintf(text, sizeof text, "layer %d %.*s", index, (int)sizeof text - 32, reason);
    return status;
}

/* As dn_fail(DN_ERR_OPTION), and remembers which option is at fault. */
dn_status dn_fail_option(const char *key, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    blamed = key;
    return DN_ERR_OPTION;
}
