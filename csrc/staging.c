/* The input and the truth of a pass on their way to a device. They are copied to pinned memory and from there on a
 * stream of their own, so that kernels of the pass before go on meanwhile. There are two lanes: while a pass reads
 * one, the other takes what comes next, which may be announced before its pass begins. */
#include "layer.h"

static dn_stage_sizes sizes_of(const network *net)
{
    size_t truths = 0;
    for (int i = 0; i < net->n && !truths; ++i) truths = (size_t)net->layers[i]->truths;
    const size_t inputs = net->n ? (size_t)net->layers[0]->inputs : 0, rows = (size_t)net->batch;
    return (dn_stage_sizes){rows * inputs * sizeof(real), rows * truths * sizeof(real)};
}
size_t dn_staged_bytes(const network *net)
{
    const dn_stage_sizes s = sizes_of(net);
    return dn_is_host(net->device) ? 0 : DN_LANES * (s.input + s.truth);
}

/* Memory that is new is zeroed by the kernels' stream, which the copies must wait for. */
static dn_status reserve(network *net, int lane, dn_buffer *buffer, size_t bytes, const char *what)
{
    const void *before = buffer->memory;
    if (!dn_buffer_of(net->device, buffer, bytes, what)) return DN_ERR_MEMORY;
    if (buffer->memory != before) net->device->end_staged(net->staging, lane);
    return DN_OK;
}
static dn_status copy_to_lane(network *net, int lane, const real *input, const real *truth)
{
    const dn_stage_sizes s = sizes_of(net);
    dn_buffer *to_input = &net->device_input[lane], *to_truth = &net->device_truth[lane];
    dn_status status = DN_OK;
    if (!net->staging) net->staging = net->device->new_staging();
    if (input) status = reserve(net, lane, to_input, s.input, "an input");
    if (truth && status == DN_OK) status = reserve(net, lane, to_truth, s.truth, "a truth");
    if (status != DN_OK) return status;
    net->device->begin_staged(net->staging, lane);
    if (input) net->device->stage(net->staging, lane, DN_STAGED_INPUT, to_input->memory, input, s.input);
    if (truth) net->device->stage(net->staging, lane, DN_STAGED_TRUTH, to_truth->memory, truth, s.truth);
    return dn_device_status(net->device);
}

dn_status stage_network(network *net, const real *input, const real *truth)
{
    if (dn_is_host(net->device)) return DN_OK;
    dn_select(net->device);
    net->is_ahead = 0;
    const dn_status status = copy_to_lane(net, !net->lane, input, truth);
    net->is_ahead = status == DN_OK;
    net->ahead_input = input;
    net->ahead_truth = truth;
    return status;
}
dn_status dn_stage_pass(network *net)
{
    net->input = net->net_input;
    net->truth = net->net_truth;
    if (dn_is_host(net->device)) return DN_OK;
    const int known =
        net->is_ahead && net->ahead_input == net->net_input && net->ahead_truth == net->net_truth;
    /* What is announced for a later pass keeps its lane. */
    const int lane = known || !net->is_ahead ? !net->lane : net->lane;
    if (!known) {
        const dn_status status = copy_to_lane(net, lane, net->net_input, net->net_truth);
        if (status != DN_OK) return status;
    } else {
        net->is_ahead = 0;
    }
    net->lane = lane;
    net->device->wait_staged(net->staging, lane);
    if (net->input) net->input = net->device_input[lane].memory;
    if (net->truth) net->truth = net->device_truth[lane].memory;
    return dn_device_status(net->device);
}
void dn_end_stage(network *net)
{
    if (net->staging) net->device->end_staged(net->staging, net->lane);
}
int dn_truth_is_staged(const network *net) { return net->truth == net->device_truth[net->lane].memory; }
/* The memory that it is copied to may go. */
void dn_forget_staged(network *net)
{
    if (net->is_ahead) net->device->begin_staged(net->staging, !net->lane);
    net->is_ahead = 0;
}
void dn_free_staging(network *net)
{
    if (net->staging) net->device->free_staging(net->staging);
    for (int i = 0; i < DN_LANES; ++i) {
        dn_release_buffer(net->device, &net->device_input[i]);
        dn_release_buffer(net->device, &net->device_truth[i]);
    }
}
