/* The activation that ends a layer which computes its output by other means. */
#include "layer.h"
#include "scalar.h"

dn_shape dn_shape_before_activation(const layer *l, ACTIVATION a)
{
    return activation_needs_input(a) ? shape_output(l) : dn_dims(0, 0, 0, 0, 0);
}
void dn_activate_output(const layer *l, const kernels *k, ACTIVATION a, real *before)
{
    const int all = l->batch * l->outputs;
    if (before) k->copy(all, l->output, 1, before, 1);
    if (activation_mixes_channels(a)) {
        k->activate_channels(l->output, l->batch, l->out_c, l->out_h * l->out_w, a, l->output);
    } else {
        k->activate_array(l->output, all, a);
    }
}
int dn_activation_reads(ACTIVATION a)
{
    const int from_output = a != LINEAR && (activation_mixes_channels(a) || !activation_needs_input(a));
    return from_output ? READS_OUTPUT : 0;
}
int dn_reads_nothing(const layer *l)
{
    (void)l;
    return 0;
}
void dn_activate_delta(const layer *l, const kernels *k, ACTIVATION a, const real *before)
{
    const int all = l->batch * l->outputs;
    if (activation_mixes_channels(a)) {
        k->gradient_channels(before, l->output, l->batch, l->out_c, l->out_h * l->out_w, a, l->delta);
    } else if (activation_needs_input(a)) {
        k->gradient_input_array(before, all, a, l->delta);
    } else {
        k->gradient_array(l->output, all, a, l->delta);
    }
}
