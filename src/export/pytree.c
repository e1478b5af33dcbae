/* SPDX-License-Identifier: BSD-3-Clause */
/* PyTorch's pytrees, as text. */
#include "export/method.h"

void anm_tree_open(anm_buf *b, const char *type)
{
    anm_buf_printf(b, "{\"type\": \"builtins.%s\", \"context\": \"", type);
}

void anm_tree_tuple(anm_buf *b)
{
    anm_tree_open(b, "tuple");
    anm_buf_puts(b, "null\", \"children_spec\": [");
}
