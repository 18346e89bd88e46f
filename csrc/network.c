/* The network: its layers in order, the passes over them, and who writes which delta first. */
#include "layer.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>

static const option_spec network_options[] = {
    OPTION(network, "batch", batch, INT),
    OPTION(network, "height", h, INT),
    OPTION(network, "width", w, INT),
    OPTION(network, "channels", c, INT),
    OPTION(network, "inputs", inputs, INT),
    OPTION(network, "subdivisions", subdivisions, INT),
    OPTION(network, "fused", fused, INT),
    OPTION(network, "precision", precision, INT),
    OPTION(network, "keep_activations", keep_activations, INT),
    OPTION(network, "recompute", recompute, INT),
    OPTION(network, "watch", watch, INT),
    OPTION(network, "first_not_finite", first_not_finite, INT),
    OPTION(network, "is_ahead", is_ahead, INT),
    OPTION(network, "graph", graph, INT),
    OPTION(network, "policy", policy, INT),
    OPTION(network, "learning_rate", learning_rate, REAL),
    OPTION(network, "learning_rate_min", learning_rate_min, REAL),
    OPTION(network, "momentum", momentum, REAL),
    OPTION(network, "decay", decay, REAL),
    OPTION(network, "decay_l1", decay_l1, REAL),
    OPTION(network, "max_gradient", max_gradient, REAL),
    OPTION(network, "gamma", gamma, REAL),
    OPTION(network, "scale", scale, REAL),
    OPTION(network, "power", power, REAL),
    OPTION(network, "step", step, INT),
    OPTION(network, "burn_in", burn_in, INT),
    OPTION(network, "max_batches", max_batches, INT),
    OPTION(network, "sgdr_cycle", sgdr_cycle, INT),
    OPTION(network, "sgdr_mult", sgdr_mult, INT),
    OPTION(network, "adam", adam, INT),
    OPTION(network, "B1", b1, REAL),
    OPTION(network, "B2", b2, REAL),
    OPTION(network, "eps", eps, REAL),
    OPTION(network, "ema_alpha", ema_alpha, REAL),
    OPTION(network, "averages", averages, INT),
    END_OF_OPTIONS,
};

network *make_network(void)
{
    network *net = dn_allocate(sizeof(network));
    if (!net) {
        dn_fail(DN_ERR_MEMORY, "no memory for a network");
        return NULL;
    }
    set_network_device(net, NULL);
    net->batch = net->subdivisions = net->fused = net->keep_activations = net->graph = 1;
    net->learning_rate = (real).001;
    net->momentum = (real).9;
    net->decay = (real).0001;
    net->power = 4;
    net->gamma = net->scale = 1;
    net->step = 1;
    net->sgdr_mult = 2;
    net->learning_rate_min = (real)1e-5;
    net->b1 = (real).9;
    net->b2 = (real).999;
    net->eps = (real)1e-7;
    net->delta_live = &net->no_delta_live;
    return net;
}
void free_network(network *net)
{
    if (!net) return;
    dn_release(net->layers);
    dn_free_staging(net);
    dn_buffer *const buffers[] = {&net->workspace, &net->device_delta, &net->device_sums};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; ++i) dn_release_buffer(net->device, buffers[i]);
    if (net->arena) net->device->release(net->arena);
    if (net->graphs) net->device->free_graphs(net->graphs);
    dn_release(net->steps);
    dn_release(net->step_scales);
    dn_release(net);
}

void set_network_device(network *net, const dn_device *device)
{
    net->device = device ? device : dn_host();
    net->k = net->device->k;
}
dn_status set_network_option(network *net, const char *name, double value)
{
    const option_spec *o = dn_find_option(network_options, name);
    return o ? dn_take_option(o, net, value) : dn_fail(DN_ERR_ARGUMENT, "[net] has no option %s", name);
}
double get_network_option(const network *net, const char *name)
{
    return dn_option_value(dn_find_option(network_options, name), net);
}
dn_status set_network_steps(network *net, const double *steps, const double *scales, int n)
{
    double *s = dn_allocate((size_t)(n > 0 ? n : 1) * sizeof *s),
           *f = dn_allocate((size_t)(n > 0 ? n : 1) * sizeof *f);
    if (!s || !f) {
        dn_release(s);
        dn_release(f);
        return dn_fail(DN_ERR_MEMORY, "no memory for %d steps", n);
    }
    for (int i = 0; i < n; ++i) s[i] = steps[i], f[i] = scales[i];
    dn_release(net->steps);
    dn_release(net->step_scales);
    net->steps = s;
    net->step_scales = f;
    net->n_steps = n;
    return DN_OK;
}

/* ---- building */
typedef struct {
    int h, w, c;                     /* h = w = 0: c plain values */
} input_size;
static input_size input_of(const network *net, int index)
{
    if (!index && net->h > 0) return (input_size){net->h, net->w, net->c};
    if (!index) return (input_size){0, 0, net->inputs};
    const layer *previous = net->layers[index - 1];
    return (input_size){previous->out_h, previous->out_w,
                        previous->out_h > 0 ? previous->out_c : previous->outputs};
}
dn_status add_layer(network *net, layer *l)
{
    if (net->arena)
        return dn_fail(DN_ERR_ARGUMENT, "a network whose layers share memory takes no more layers");
    if (net->n == net->capacity) {
        const int capacity = net->capacity ? 2 * net->capacity : 64;
        layer **more = dn_allocate((size_t)capacity * sizeof *more);
        if (!more) return dn_fail(DN_ERR_MEMORY, "no memory for a list of %d layers", capacity);
        for (int i = 0; i < net->n; ++i) more[i] = net->layers[i];
        dn_release(net->layers);
        net->layers = more;
        net->capacity = capacity;
    }
    const input_size in = input_of(net, net->n);
    if (!l->output) l->device = net->device;
    dn_status status = dn_check_device(l, net);
    if (status != DN_OK) return status;
    status =
        l->output ? dn_reshape_layer(l, net, net->batch, in.h, in.w, in.c, ARRAY_ACTIVATION)
                  : shape_layer(l, net, net->batch, in.h, in.w, in.c);
    if (status != DN_OK) return status;
    if (!l->output) l->train = net->train;
    FOR_PARTS(p, l) p->index = net->n;
    net->layers[net->n++] = l;
    return DN_OK;
}

/* Who read the removed layer, or one behind it, now finds it one place before. */
static void renumber_links(const layer *l, int removed)
{
    const int_list *links = l->ops->links ? (const int_list *)((const char *)l + l->ops->links) : NULL;
    for (int i = 0; links && i < links->n; ++i) links->values[i] -= links->values[i] >= removed;
}
/* What follows the layer gets what preceded it, so both sides must have one shape. The layer lives on, alone. */
dn_status remove_layer(network *net, int index)
{
    if (index < 1 || index >= net->n) {
        return dn_fail(DN_ERR_ARGUMENT, "layer %d: wanted 1 to %d", index, net->n - 1);
    }
    layer *l = net->layers[index];
    const layer *previous = net->layers[index - 1];
    if (l->out_h != previous->out_h || l->out_w != previous->out_w || l->outputs != previous->outputs) {
        return dn_fail(DN_ERR_ARGUMENT, "layer %d [%s] cannot be taken out: it changes the shape", index,
                       l->ops->name);
    }
    dn_forget_activations(l);
    FOR_PARTS(p, l) p->index = -1;
    --net->n;
    for (int i = index; i < net->n; ++i) {
        net->layers[i] = net->layers[i + 1];
        FOR_PARTS(p, net->layers[i]) p->index = i;
    }
    for (int i = 0; i < net->n; ++i) renumber_links(net->layers[i], index);
    return net->arena ? dn_place_activations(net) : DN_OK;
}

static size_t largest_workspace(const network *net)
{
    size_t most = 0;
    for (int i = 0; i < net->n; ++i) {
        FOR_PARTS(p, net->layers[i]) {
            const size_t wanted = p->ops->workspace ? p->ops->workspace(p) : 0;
            if (wanted > most) most = wanted;
        }
    }
    return most;
}
network_memory get_network_memory(const network *net)
{
    network_memory m = {.arena = net->arena_bytes, .staged = dn_staged_bytes(net)};
    if (dn_overflows(largest_workspace(net), sizeof(real), &m.workspace)) m.workspace = SIZE_MAX;
    return m;
}
static size_t add_bytes(size_t a, size_t b)
{
    size_t sum;
    return a == SIZE_MAX || b == SIZE_MAX || __builtin_add_overflow(a, b, &sum) ? SIZE_MAX : sum;
}
size_t network_bytes(const network *net)
{
    const network_memory m = get_network_memory(net);
    size_t total = add_bytes(add_bytes(m.arena, m.workspace), m.staged);
    for (int i = 0; i < net->n; ++i) total = add_bytes(total, get_layer_info(net->layers[i]).own_bytes);
    return total;
}
dn_status allocate_network(network *net)
{
    const dn_status status = dn_place_activations(net);
    if (status != DN_OK) return status;
    return dn_workspace(net, largest_workspace(net)) ? DN_OK : DN_ERR_MEMORY;
}
/* Layers 0 .. *n get the input that follows from the layers before; *n becomes the first that failed. */
static dn_status resize_layers(network *net, int h, int w, int *n)
{
    dn_status status = DN_OK;
    net->h = h;
    net->w = w;
    for (int i = 0; i < *n && status == DN_OK; ++i) {
        const input_size in = input_of(net, i);
        status = dn_resize_layer(net->layers[i], net, in.h, in.w, in.c);
        if (status != DN_OK) *n = i;
    }
    return status;
}
dn_status resize_network(network *net, int h, int w)
{
    const int old_h = net->h, old_w = net->w;
    int n = net->n;
    dn_forget_staged(net);
    const dn_status status = resize_layers(net, h, w, &n);
    if (status == DN_OK) return allocate_network(net);
    ++n;   /* the layer that failed may have changed too */
    resize_layers(net, old_h, old_w, &n);
    dn_place_activations(net);
    return status;
}
real *dn_workspace(network *net, size_t reals)
{
    size_t bytes;
    if (dn_overflows(reals, sizeof(real), &bytes)) bytes = SIZE_MAX;
    return dn_buffer_of(net->device, &net->workspace, bytes, "a workspace");
}
double *dn_device_sums(network *net, int count)
{
    return dn_buffer_of(net->device, &net->device_sums, (size_t)count * sizeof(double), "sums");
}
dn_status dn_pull_sums(const network *net, const double *from, int count, double *sums)
{
    const dn_status status = net->device->pull(sums, from, (size_t)count * sizeof *sums);
    return status == DN_OK ? DN_OK : dn_device_status(net->device);
}
double dn_sum(network *net, dn_sum_kernel kernel, int n, const real *x)
{
    double sum = 0, *to = dn_is_host(net->device) ? &sum : dn_device_sums(net, 1);
    if (!to) return NAN;
    kernel(n, x, to);
    if (to == &sum) return sum;
    return net->device->pull(&sum, to, sizeof sum) == DN_OK ? sum : NAN;
}

/* ---- a pass in the network's precision, which is nobody else's on this thread, and as a graph of its device:
 * between begin_pass and end_pass kernels may be kept back, see dn_device */
static void begin_pass(network *net, dn_pass pass)
{
    if (net->graph && !net->watch && net->device->new_graphs && !net->graphs) {
        net->graphs = net->device->new_graphs();
    }
    net->pass = pass;
    net->graph_reasons[pass][0] = 0;
    net->keeps = net->graph && !net->watch && net->graphs;
    if (net->keeps) net->device->begin_graph(net->graphs, pass);
    dn_set_precision(net->device, net->precision);
}
void dn_note_parts(network *net, const layer *l, const char *where)
{
    char *reason = net->graph_reasons[net->pass];
    const char *why = net->keeps ? net->device->graph_parted() : NULL;
    const size_t most = sizeof net->graph_reasons[0];
    if (!why || *reason) return;
    if (l)
        snprintf(reason, most, "layer %d [%s]: %s", l->index, l->ops->name, why);
    else
        snprintf(reason, most, "%s: %s", where, why);
}
static dn_status end_pass(network *net, dn_status status)
{
    if (net->keeps) net->device->end_graph();
    dn_note_parts(net, NULL, "the pass");
    net->keeps = 0;
    dn_set_precision(net->device, DN_FP32);
    return status == DN_OK ? dn_device_status(net->device) : status;
}
dn_graph_info get_graph_info(const network *net, dn_pass pass)
{
    static const dn_graph_info none = {0, 0, 0, 0, 0};
    return net->graphs ? net->device->graph_info(net->graphs, pass) : none;
}
const char *get_graph_reason(const network *net, dn_pass pass) { return net->graph_reasons[pass]; }

/* ---- the passes */
void set_network_input(network *net, const real *input) { net->input = net->net_input = input; }
void set_network_truth(network *net, const real *truth) { net->truth = net->net_truth = truth; }
void set_network_delta(network *net, real *delta, int add)
{
    net->delta = net->net_delta = delta;
    net->net_delta_live = add;
    net->delta_live = &net->net_delta_live;
}
void set_network_train(network *net, int train) { net->train = train; }
uint64_t get_seen(const network *net) { return net->seen; }
void set_seen(network *net, uint64_t seen) { net->seen = seen; }
uint64_t get_updates(const network *net) { return net->updates; }
void set_updates(network *net, uint64_t updates) { net->updates = updates; }
uint64_t get_seed(const network *net) { return net->seed; }
void set_seed(network *net, uint64_t seed) { net->seed = seed; }

/* The first consumer of an output to arrive in a backward pass writes its delta, later ones add. */
delta_sink input_sink(network *net)
{
    const delta_sink sink = {net->delta, *net->delta_live};
    *net->delta_live = 1;
    return sink;
}
delta_sink link_sink(network *net, int index)
{
    layer *l = net->layers[index];
    const delta_sink sink = {l->ops->ends ? NULL : l->delta, l->delta_live};
    l->delta_live = 1;
    return sink;
}

static int all_finite(const layer *l, network *net)
{
    return !l->output || isfinite(dn_sum(net, net->k->sum, l->batch * l->outputs, l->output));
}
/* Where a backward pass writes the input's delta: the caller's array, or a copy of it on the device. */
static dn_status find_input_delta(network *net, size_t values, real **delta)
{
    *delta = net->net_delta;
    if (!net->net_delta || dn_is_host(net->device)) return DN_OK;
    *delta = dn_buffer_of(net->device, &net->device_delta, values * sizeof(real), "an input's delta");
    if (!*delta) return DN_ERR_MEMORY;
    net->device->push(*delta, net->net_delta, values * sizeof(real));
    return dn_device_status(net->device);
}
static dn_status forward_layers(network *net)
{
    int truths = 0;   /* values per row of the truth in force; 0: not known yet */
    for (int i = 0; i < net->n; ++i) {
        layer *l = net->layers[i];
        if (net->truth && l->truths && truths && l->truths != truths) {
            return dn_fail(DN_ERR_ARGUMENT, "layer %d [%s] wants a truth of %d values per row and gets %d", i,
                           l->ops->name, l->truths, truths);
        }
        if (l->truths) truths = l->truths;
        const dn_status status = forward_layer(l, net);
        dn_note_parts(net, l, NULL);
        if (status != DN_OK) return dn_fail_in_layer(status, i);
        const int looks = net->watch && net->first_not_finite < 0;
        if (looks && !all_finite(l, net)) net->first_not_finite = i - l->pooled;
        net->input = l->output;
        if (!l->truth_source) continue;
        net->truth = l->output;
        truths = l->outputs;
    }
    return DN_OK;
}
/* The costs of a pass on a device are looked at once, when all are known. */
static dn_status begin_costs(network *net)
{
    net->costs = NULL;
    net->n_costs = 0;
    if (dn_is_host(net->device) || net->watch) return DN_OK;
    net->costs = dn_device_sums(net, net->n);
    return net->costs ? DN_OK : DN_ERR_MEMORY;
}
static dn_status take_costs(network *net)
{
    if (!net->n_costs) return DN_OK;
    double *costs = dn_allocate((size_t)net->n_costs * sizeof *costs);
    if (!costs) return dn_fail(DN_ERR_MEMORY, "no memory for %d losses", net->n_costs);
    const dn_status status = dn_pull_sums(net, net->costs, net->n_costs, costs);
    for (int i = 0; i < net->n && status == DN_OK; ++i) {
        layer *l = net->layers[i];
        if (l->cost_at) l->cost = costs[l->cost_at - 1];
    }
    dn_release(costs);
    return status;
}
dn_status forward_network(network *net)
{
    net->first_not_finite = -1;
    for (int i = 0; i < net->n; ++i) net->layers[i]->x = NULL; /* no backward pass after one that failed */
    dn_select(net->device);
    dn_status status = dn_stage_pass(net);
    if (status == DN_OK) status = begin_costs(net);
    if (status != DN_OK) return status;
    begin_pass(net, net->train ? DN_FORWARD_TRAINING : DN_FORWARD);
    status = end_pass(net, forward_layers(net));
    dn_end_stage(net);
    if (status == DN_OK) status = take_costs(net);
    net->costs = NULL;
    return status;
}

/* Without a loss at the end the caller has written the last delta. An output that no loss depends on gets
 * zeros. */
static dn_status backward_layers(network *net, real *input_delta)
{
    const int last = dn_layers_without_gradient(net);
    for (int i = net->n - 1; i >= last; --i) {
        layer *l = net->layers[i], *previous = i ? net->layers[i - 1] : NULL;
        const int reached = l->delta_live || l->has_cost || i == net->n - 1;
        if (!reached && l->delta) net->k->fill(l->batch * l->outputs, 0, l->delta, 1);
        if (l->onlyforward || !reached) continue;
        net->delta = !previous ? input_delta : previous->ops->ends ? NULL : previous->delta;
        net->delta_live = previous ? &previous->delta_live : &net->net_delta_live;
        const dn_status status = backward_layer(l, net);
        dn_note_parts(net, l, NULL);
        if (net->arena) l->x = NULL; /* what the forward pass left is overwritten from here on */
        if (status != DN_OK) return dn_fail_in_layer(status, i);
    }
    net->input = net->net_input;
    net->delta = net->net_delta;
    net->delta_live = &net->net_delta_live;
    return DN_OK;
}
static dn_status update_layers(network *net)
{
    const dn_status status = dn_update_network_layers(net, get_current_rate(net));
    if (status == DN_OK) ++net->updates;
    return status;
}
/* The backward pass and, where it is due, the update. */
static dn_status learn(network *net, dn_pass pass)
{
    const size_t inputs = net->n ? (size_t)net->batch * net->layers[0]->inputs : 0;
    real *input_delta;
    dn_select(net->device);
    dn_status status = find_input_delta(net, inputs, &input_delta);
    if (status != DN_OK) return status;
    begin_pass(net, pass);
    status = backward_layers(net, input_delta);
    if (status == DN_OK && pass == DN_LEARN) status = update_layers(net);
    status = end_pass(net, status);
    dn_end_stage(net);
    if (status == DN_OK && net->net_delta && input_delta != net->net_delta) {
        net->device->pull(net->net_delta, input_delta, inputs * sizeof(real));
        status = dn_device_status(net->device);
    }
    return status;
}
dn_status backward_network(network *net) { return learn(net, DN_BACKWARD); }
dn_status learn_network(network *net) { return learn(net, DN_LEARN); }
dn_status update_network(network *net)
{
    dn_select(net->device);
    begin_pass(net, DN_UPDATE);
    return end_pass(net, update_layers(net));
}

void dn_find_cost(layer *l, network *net, dn_sum_kernel kernel, const real *x)
{
    const int n = l->batch * l->outputs;
    if (!net->costs) {
        l->cost = dn_sum(net, kernel, n, x);
        return;
    }
    kernel(n, x, net->costs + net->n_costs);
    l->cost_at = ++net->n_costs;
}
void dn_loss(layer *l, network *net, const real *loss)
{
    dn_find_cost(l, net, net->k->sum, loss);
    l->has_cost = 1;
}
double network_cost(const network *net)
{
    double sum = 0;
    int count = 0;
    for (int i = 0; i < net->n; ++i) {
        if (!net->layers[i]->has_cost) continue;
        sum += net->layers[i]->cost;
        ++count;
    }
    return count ? sum / count : 0;
}
