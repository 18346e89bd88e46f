/* Everything generic over a layer's options and arrays: make, shape, allocate, resize, free. */
#include "layer.h"
#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the rows that every layer has, before its own */
static const array_spec common_arrays[] = {
    ARRAY(layer, output, "output", shape_output, ACTIVATION, 0),
    ARRAY(layer, delta, "delta", shape_output, ACTIVATION, TRAIN_ONLY),
};
enum { COMMON = sizeof common_arrays / sizeof *common_arrays };
static const option_spec common_options[] = {
    OPTION(layer, "learning_rate", learning_rate, REAL), OPTION(layer, "stopbackward", stopbackward, INT),
    OPTION(layer, "onlyforward", onlyforward, INT),      OPTION(layer, "dont_update", dont_update, INT),
    OPTION(layer, "burnin_update", burnin_update, INT),  OPTION(layer, "train_only_bn", train_only_bn, INT),
    OPTION(layer, "truth", truth_source, INT),           OPTION(layer, "clip", clip, REAL),
    OPTION(layer, "grad_centr", grad_centr, INT),
    OPTION(layer, "adam", adam, INT),                    OPTION(layer, "velocity", velocity, INT),
    OPTION(layer, "averaged", averaged, INT),            OPTION(layer, "fused", fused, INT),
    OPTION(layer, "convolution", convolution, INT),
    END_OF_OPTIONS,
};

dn_shape dn_dims(int dims, int a, int b, int c, int d) { return (dn_shape){dims, {a, b, c, d}}; }
dn_shape shape_output(const layer *l)
{
    return l->out_h > 0 ? dn_dims(4, l->batch, l->out_c, l->out_h, l->out_w)
                        : dn_dims(2, l->batch, l->outputs, 0, 0);
}
dn_shape shape_input(const layer *l)
{
    return l->h > 0 ? dn_dims(4, l->batch, l->c, l->h, l->w) : dn_dims(2, l->batch, l->inputs, 0, 0);
}

array_spec dn_array_row(const layer *l, int i)
{
    static const array_spec none = END_OF_ARRAYS;
    array_spec row = i < COMMON ? common_arrays[i] : l->ops->arrays ? l->ops->arrays[i - COMMON] : none;
    if (l->lender && row.role < ARRAY_ACTIVATION) row.flags |= BORROWED;
    if (l->shared && row.role == ARRAY_ACTIVATION) row.flags |= SHARED;
    return row;
}
void **dn_array_field(const layer *l, const array_spec *row) { return (void **)((char *)l + row->offset); }
static int passes_kept(const layer *l, const array_spec *row)
{
    return row->role == ARRAY_ACTIVATION ? l->steps : 1;
}
real *dn_array_data(const layer *l, const array_spec *row) { return *dn_array_field(l, row); }

/* Values in the array; SIZE_MAX where the product does not fit. */
size_t dn_array_count(const layer *l, const array_spec *row)
{
    const dn_shape s = row->shape(l);
    size_t count = s.dims > 0 ? (size_t)passes_kept(l, row) : 0;
    for (int i = 0; i < s.dims; ++i) {
        if (s.dim[i] < 0 || dn_overflows(count, (size_t)s.dim[i], &count)) return SIZE_MAX;
    }
    return count;
}
static size_t array_bytes(const layer *l, const array_spec *row)
{
    size_t bytes;
    const size_t each = row->flags & IS_INT ? sizeof(int) : sizeof(real);
    return dn_overflows(dn_array_count(l, row), each, &bytes) ? SIZE_MAX : bytes;
}
void dn_move_activations(layer *l, int passes)
{
    array_spec row;
    for (int i = 0; l->steps > 1 && passes && (row = dn_array_row(l, i)).name; ++i) {
        char **field = (char **)dn_array_field(l, &row);
        if (row.role != ARRAY_ACTIVATION || row.flags & BORROWED || !*field) continue;
        *field += (ptrdiff_t)(array_bytes(l, &row) / (size_t)l->steps) * passes;
    }
}
/* Is this array kept, given how the network trains? */
static int array_wanted(const layer *l, const array_spec *row, int train)
{
    if (row->flags & BORROWED || (row->flags & TRAIN_ONLY && !train)) return 0;
    if (row->role != ARRAY_MOMENT) return 1;
    switch (row->name[strlen(row->name) - 1]) {   /* _m, _v, _ema */
    case 'm': return l->adam || l->velocity;
    case 'v': return l->adam;
    default: return l->averaged;
    }
}
size_t dn_array_bytes(const layer *l, const array_spec *row)
{
    return array_wanted(l, row, l->train) ? array_bytes(l, row) : 0;
}

/* ---- parts */
static layer **part_field(const layer *l, int i)
{
    const part_spec *part = l->ops->parts ? &l->ops->parts[i] : NULL;
    return part && part->name ? (layer **)((char *)l + part->offset) : NULL;
}
static dn_status new_parts(layer *l)
{
    layer **part;
    for (int i = 0; (part = part_field(l, i)); ++i) {
        if (!(*part = new_layer(l->ops->parts[i].type))) return DN_ERR_MEMORY;
    }
    return DN_OK;
}
static void free_parts(layer *l)
{
    layer **part;
    for (int i = 0; (part = part_field(l, i)); ++i) free_layer(*part);
}
/* A part that the options do not ask for never gets an input. */
layer *dn_next_part(const layer *l, const layer *p)
{
    layer **part;
    int passed = p == l;
    for (int i = 0; (part = part_field(l, i)); ++i) {
        if (passed && (*part)->inputs) return *part;
        passed = passed || *part == p;
    }
    return NULL;
}
layer_part get_layer_part(const layer *l, int i)
{
    layer **part;
    for (int j = 0; (part = part_field(l, j)); ++j) {
        if ((*part)->inputs && !i--) return (layer_part){l->ops->parts[j].name, *part};
    }
    return (layer_part){NULL, NULL};
}

/* ---- options */
const option_spec *dn_find_option(const option_spec *options, const char *name)
{
    for (const option_spec *o = options; o && o->name; ++o) {
        if (!strcmp(o->name, name)) return o;
    }
    return NULL;
}
static int is_int(double value) { return value >= INT_MIN && value <= INT_MAX && value == floor(value); }
dn_status dn_take_option(const option_spec *option, void *to, double value)
{
    void *field = (char *)to + option->offset;
    if (option->kind == OPTION_REAL) {
        *(real *)field = (real)value;
        return DN_OK;
    }
    if (option->kind != OPTION_INT || !is_int(value)) {
        return dn_fail_option(option->name, "%s=%.10g: wanted a whole number within +-2147483647",
                              option->name, value);
    }
    *(int *)field = (int)value;
    return DN_OK;
}
double dn_option_value(const option_spec *option, const void *from)
{
    if (!option || option->kind == OPTION_LIST || option->kind == OPTION_REALS) return NAN;
    const void *field = (const char *)from + option->offset;
    return option->kind == OPTION_REAL ? (double)*(const real *)field : *(const int *)field;
}
static const option_spec *find_option(const layer *l, const char *name)
{
    const option_spec *common = dn_find_option(common_options, name);
    return common ? common : dn_find_option(l->ops->options, name);
}
dn_status set_layer_option(layer *l, const char *name, double value)
{
    const option_spec *o = find_option(l, name);
    if (o) return dn_take_option(o, l, value);
    dn_status status = dn_fail(DN_ERR_ARGUMENT, "[%s] has no option %s", l->ops->name, name);
    layer **part;
    for (int i = 0; (part = part_field(l, i)); ++i) {
        if (!(o = find_option(*part, name))) continue;
        if ((status = dn_take_option(o, *part, value)) != DN_OK) return status;
    }
    return status;
}
double get_layer_option(const layer *l, const char *name)
{
    const option_spec *o = find_option(l, name);
    layer **part;
    for (int i = 0; !o && (part = part_field(l, i)); ++i) {
        if ((o = find_option(*part, name))) l = *part;
    }
    return dn_option_value(o, l);
}
static void take_list(const layer *l, const option_spec *o, int n, void *values)
{
    void *list = (char *)l + o->offset;
    if (o->kind == OPTION_LIST) {
        dn_release(((int_list *)list)->values);
        *(int_list *)list = (int_list){n, values};
    } else {
        dn_release(((real_list *)list)->values);
        *(real_list *)list = (real_list){n, values};
    }
}
dn_status set_layer_list(layer *l, const char *name, const double *values, int n)
{
    const option_spec *o = find_option(l, name);
    if (!o || (o->kind != OPTION_LIST && o->kind != OPTION_REALS)) {
        return dn_fail(DN_ERR_ARGUMENT, "[%s] has no list %s", l->ops->name, name);
    }
    for (int i = 0; i < n && o->kind == OPTION_LIST; ++i) {
        if (!is_int(values[i])) {
            return dn_fail_option(o->name, "[%s] %s: %.10g: wanted whole numbers within +-2147483647",
                                  l->ops->name, name, values[i]);
        }
    }
    void *copy = dn_allocate((size_t)(n > 0 ? n : 1) * (o->kind == OPTION_LIST ? sizeof(int) : sizeof(real)));
    if (!copy) return dn_fail(DN_ERR_MEMORY, "no memory for %d values of %s", n, name);
    for (int i = 0; i < n; ++i) {
        if (o->kind == OPTION_LIST) ((int *)copy)[i] = (int)values[i];
        else ((real *)copy)[i] = (real)values[i];
    }
    take_list(l, o, n, copy);
    return DN_OK;
}
/* For "%.*g": whole numbers in full, those of a float without digits that it does not have. */
#define SHOWN(x) ((x) == floor(x) && fabs(x) < 1e10 ? 10 : 6), (x)
dn_status dn_option_in(const layer *l, const char *key, double value, double low, double high)
{
    if (value >= low && value <= high) return DN_OK;
    if (high >= INT_MAX) {
        return dn_fail_option(key, "[%s] %s=%.*g: wanted at least %.*g", l->ops->name, key, SHOWN(value),
                              SHOWN(low));
    }
    return dn_fail_option(key, "[%s] %s=%.*g: wanted %.*g to %.*g", l->ops->name, key, SHOWN(value),
                          SHOWN(low), SHOWN(high));
}

/* ---- life of a layer */
layer *new_layer(LAYER_TYPE type)
{
    const layer_ops *ops = type >= 0 && type < LAYER_TYPES ? layer_table[type] : NULL;
    layer *l = ops ? dn_allocate(ops->size) : NULL;
    if (!l) {
        dn_fail(DN_ERR_MEMORY, ops ? "no memory for a layer" : "no such layer type: %d", type);
        return NULL;
    }
    l->ops = ops;
    l->type = type;
    l->device = dn_host();
    l->index = -1;
    l->learning_rate = 1;
    l->fused = l->steps = 1;
    l->kept_from = -1;
    if (new_parts(l) == DN_OK) return l;
    free_layer(l);
    return NULL;
}

dn_status dn_set_output(layer *l, int64_t h, int64_t w, int64_t c)
{
    int outputs, all;
    if (h < 1 || w < 1 || c < 1) {
        return dn_fail(DN_ERR_OPTION,
                       "[%s] would have an output of %lldx%lldx%lld from an input of %dx%dx%d "
                       "(height x width x channels)",
                       l->ops->name, (long long)h, (long long)w, (long long)c, l->h, l->w, l->c);
    }
    if (__builtin_mul_overflow(h, w, &outputs) || __builtin_mul_overflow(outputs, c, &outputs) ||
        __builtin_mul_overflow(outputs, l->batch, &all)) {
        return dn_fail(DN_ERR_OPTION,
                       "[%s] would have a batch of %d outputs of %lldx%lldx%lld: more than 2147483647 values",
                       l->ops->name, l->batch, (long long)h, (long long)w, (long long)c);
    }
    l->out_h = (int)h;
    l->out_w = (int)w;
    l->out_c = (int)c;
    l->outputs = outputs;
    return DN_OK;
}
dn_status dn_set_plain_output(layer *l, int64_t outputs)
{
    const dn_status status = dn_set_output(l, 1, 1, outputs);
    l->out_h = l->out_w = l->out_c = 0;
    return status;
}
dn_status dn_one_link(const layer *l, const network *net, const char *key, const int_list *links)
{
    const int above = l->index >= 0 ? l->index : net ? net->n : 0;
    if (links->n != 1)
        return dn_fail_option(key, "[%s] %s: %d layers, wanted one", l->ops->name, key, links->n);
    if (links->values[0] >= 0 && links->values[0] < above) return DN_OK;
    return dn_fail_option(key, "[%s] layer %d: wanted 0 to %d", l->ops->name, links->values[0], above - 1);
}
dn_status dn_require_image(const layer *l)
{
    if (l->h > 0 && l->w > 0 && l->c > 0) return DN_OK;
    return dn_fail(DN_ERR_OPTION, "[%s] needs an image (height x width x channels), got %d plain inputs",
                   l->ops->name, l->inputs);
}

/* The errors of 6x6 tiles are for networks that never train. */
convolution_algorithm dn_convolution(const layer *l)
{
    return l->train && l->convolution == CONVOLUTION_WINOGRAD6 ? CONVOLUTION_WINOGRAD4 : l->convolution;
}

size_t dn_convolution_workspace(const layer *l, const conv_shape *s)
{
    return dn_is_host(l->device) ? convolution_workspace(s, dn_num_threads()) : 0;
}

/* A layer without an image (h = w = 0) has c plain inputs. */
dn_status shape_layer(layer *l, network *net, int batch, int h, int w, int c)
{
    size_t inputs, all;
    if (batch < 1 || c < 1 || h < 0 || w < 0 || (h > 0) != (w > 0)) {
        return dn_fail(DN_ERR_ARGUMENT, "[%s] batch=%d h=%d w=%d c=%d: wanted positive sizes", l->ops->name,
                       batch, h, w, c);
    }
    const size_t area = h > 0 ? (size_t)h * w : 1;
    if (dn_overflows(area, c, &inputs) || dn_overflows(inputs, batch, &all) || all > INT_MAX) {
        return dn_fail(DN_ERR_OPTION,
                       "[%s] would have a batch of %d inputs of %dx%dx%d: more than 2147483647 values",
                       l->ops->name, batch, h, w, c);
    }
    l->batch = batch;
    l->h = h;
    l->w = w;
    l->c = c;
    l->inputs = (int)inputs;
    return l->ops->shape(l, net);
}

/* Counters steer the passes, so that they lie where these are begun. */
static const dn_device *array_device(const layer *l, const array_spec *row)
{
    return row->role == ARRAY_COUNTER ? dn_host() : l->device;
}
/* Allocates what is wanted and missing. Parameters are kept; other arrays are made anew (zeros) when their
 * size may have changed. */
static dn_status make_arrays(layer *l, int train)
{
    array_spec row;
    for (int i = 0; (row = dn_array_row(l, i)).name; ++i) {
        void **field = dn_array_field(l, &row);
        if (row.flags & SHARED || !array_wanted(l, &row, train)) continue;
        const size_t bytes = array_bytes(l, &row);
        if (*field || bytes == 0) continue;
        *field = bytes == SIZE_MAX ? NULL : array_device(l, &row)->allocate(bytes);
        if (!*field) {
            dn_fail(DN_ERR_MEMORY, "[%s] no memory for %s (%zu bytes)", l->ops->name, row.name, bytes);
            return dn_add_reason(l->device, DN_ERR_MEMORY);
        }
        if (row.role == ARRAY_PARAMETER && !strcmp(row.name, "scales")) {
            dn_select(l->device);
            l->device->k->fill((int)dn_array_count(l, &row), 1, *field, 1);
        }
    }
    return DN_OK;
}
static void drop_arrays(layer *l, array_role from_role)
{
    array_spec row;
    l->kept_from = -1;
    for (int i = 0; (row = dn_array_row(l, i)).name; ++i) {
        void **field = dn_array_field(l, &row);
        if (row.role < from_role) continue;
        if (*field && !(row.flags & (BORROWED | SHARED))) array_device(l, &row)->release(*field);
        *field = NULL;
    }
}
static void borrow_arrays(layer *l)
{
    array_spec row;
    for (int i = 0; (row = dn_array_row(l, i)).name; ++i) {
        if (row.role < ARRAY_ACTIVATION) *dn_array_field(l, &row) = *dn_array_field(l->lender, &row);
    }
}
void dn_tell_parts(layer *l, int train)
{
    FOR_PARTS(p, l) {
        p->device = l->device;
        p->train = train;
        p->fused = l->fused;
        p->adam = l->adam;
        p->velocity = l->velocity;
        p->averaged = l->averaged;
    }
}
dn_status allocate_layer(layer *l, int train)
{
    dn_status status = DN_OK;
    dn_tell_parts(l, train);
    FOR_PARTS(p, l) {
        if (status == DN_OK) status = make_arrays(p, train);
        p->complete = status == DN_OK;
    }
    if (l->lender) borrow_arrays(l);
    const int has_place = !l->shared || (l->pool ? l->pool : l)->output;
    l->complete = status == DN_OK && has_place;
    return status;
}
/* Each part draws from a stream of its own. */
dn_status initialize_layer(layer *l, uint64_t seed)
{
    dn_status status = DN_OK;
    FOR_PARTS(p, l) {
        const int starts = p->ops->initialize && !p->lender && status == DN_OK;
        if (starts) status = dn_initialize_on_host(p, seed);
        lend_layer_weights(p);
        return_layer_weights(p);
        seed += 0x9E3779B97F4A7C15;
    }
    return status;
}
void free_layer(layer *l)
{
    if (!l) return;
    free_parts(l);
    drop_arrays(l, ARRAY_PARAMETER);
    for (const option_spec *o = l->ops->options; o && o->name; ++o) {
        if (o->kind == OPTION_LIST || o->kind == OPTION_REALS) take_list(l, o, 0, NULL);
    }
    if (l->ops->release) l->ops->release(l);
    dn_release(l);
}

enum { MOST_ROWS = 64 };
typedef struct {
    layer shape;
    size_t counts[MOST_ROWS];
} old_layer;
static void remember(const layer *l, old_layer *old)
{
    array_spec row;
    old->shape = *l;
    for (int i = 0; (row = dn_array_row(l, i)).name; ++i) {
        assert(i < MOST_ROWS);
        old->counts[i] = dn_array_count(l, &row);
    }
}
static dn_status refuse_changes(const layer *l, const old_layer *old, array_role kept)
{
    array_spec row;
    for (int i = 0; (row = dn_array_row(l, i)).name; ++i) {
        const int held = *dn_array_field(l, &row) && !(row.flags & BORROWED);
        if (held && row.role <= kept && dn_array_count(l, &row) != old->counts[i]) {
            return dn_fail(DN_ERR_OPTION,
                           "[%s] cannot get another input: its %s would change from %zu to %zu values",
                           l->ops->name, row.name, old->counts[i], dn_array_count(l, &row));
        }
    }
    return DN_OK;
}
dn_status dn_reshape_layer(layer *l, network *net, int batch, int h, int w, int c, array_role kept)
{
    old_layer old[1 + DN_MOST_PARTS];
    int n = 0;
    FOR_PARTS(p, l) remember(p, &old[n++]);
    dn_status status = shape_layer(l, net, batch, h, w, c);
    n = 0;
    FOR_PARTS(p, l) if (status == DN_OK) status = refuse_changes(p, &old[n++], kept);
    if (status == DN_OK) return DN_OK;
    n = 0;
    FOR_PARTS(p, l) *p = old[n++].shape;
    return status;
}
dn_status dn_resize_layer(layer *l, network *net, int h, int w, int c)
{
    const dn_status status = dn_reshape_layer(l, net, l->batch, h, w, c, ARRAY_COUNTER);
    if (status != DN_OK) return status;
    FOR_PARTS(p, l) drop_arrays(p, ARRAY_STATE);
    l->x = NULL;
    l->has_cost = l->delta_live = 0;
    return allocate_layer(l, l->train);
}
dn_status resize_layer(layer *l, network *net, int h, int w) { return dn_resize_layer(l, net, h, w, l->c); }

/* ---- what others may know */
static size_t layer_bytes(const layer *l, int flags_left_out)
{
    size_t total = 0;
    array_spec row;
    FOR_PARTS(p, l) {
        for (int i = 0; (row = dn_array_row(p, i)).name; ++i) {
            const size_t bytes = row.flags & flags_left_out ? 0 : dn_array_bytes(p, &row);
            if (bytes == SIZE_MAX || __builtin_add_overflow(total, bytes, &total)) return SIZE_MAX;
        }
    }
    return total;
}
static double layer_flops(const layer *l)
{
    double sum = 0;
    FOR_PARTS(p, l) sum += p->outputs && p->ops->flops ? p->ops->flops(p) : 0;
    return sum;
}
layer_info get_layer_info(const layer *l)
{
    return (layer_info){
        .type = l->type,
        .index = l->index,
        .batch = l->batch,
        .h = l->h,
        .w = l->w,
        .c = l->c,
        .inputs = l->inputs,
        .out_h = l->out_h,
        .out_w = l->out_w,
        .out_c = l->out_c,
        .outputs = l->outputs,
        .truths = l->truths,
        .has_cost = l->has_cost,
        .is_loss = l->ops->is_loss,
        .cost = l->cost,
        .flops = layer_flops(l),
        .bytes = l->outputs ? layer_bytes(l, 0) : 0,
        .own_bytes = l->outputs ? layer_bytes(l, SHARED) : 0,
    };
}
int count_layer_arrays(const layer *l)
{
    int n = 0;
    while (dn_array_row(l, n).name) ++n;
    return n;
}
layer_array get_layer_array(const layer *l, int i)
{
    const array_spec row = dn_array_row(l, i);
    dn_shape s = row.shape(l);
    const int passes = passes_kept(l, &row);
    if (passes > 1 && s.dims == 1) s = dn_dims(2, passes, s.dim[0], 0, 0);
    else if (s.dims) s.dim[0] *= passes;
    layer_array a = {.name = row.name, .role = row.role, .is_int = (row.flags & IS_INT) != 0,
                     .is_lent = (row.flags & BORROWED) && row.role < ARRAY_ACTIVATION,
                     .is_shared = row.flags & SHARED || (row.flags & BORROWED && l->input_shared),
                     .dims = s.dims, .count = dn_array_count(l, &row), .bytes = dn_array_bytes(l, &row)};
    a.data = a.is_shared ? NULL : *dn_array_field(l, &row);
    a.on_device = !dn_is_host(array_device(l, &row));
    memcpy(a.dim, s.dim, sizeof a.dim);
    return a;
}

int get_detections(const layer *l, int image, real thresh, real hier, real *rows)
{
    if (!l->ops->detections || !l->output || image < 0 || image >= l->batch) return -1;
    if (!dn_is_host(l->device)) return dn_detections_on_host(l, image, thresh, hier, rows);
    return l->ops->detections(l, image, thresh, hier, rows);
}
int count_detections(const layer *l, int image, real thresh, real hier)
{
    return get_detections(l, image, thresh, hier, NULL);
}

/* ---- the passes by name: forward_batchnorm_layer and so on are the same two functions */
static dn_status require_arrays(const layer *l)
{
    if (l->complete) return DN_OK;
    return dn_fail(DN_ERR_MEMORY, "[%s] has no memory for its arrays", l->ops->name);
}
/* Kernels of a device say afterwards what they have met. */
static dn_status run(layer *l, network *net, dn_status (*pass)(layer *l, network *net))
{
    dn_status status = dn_check_device(l, net);
    if (status == DN_OK) status = pass(l, net);
    return status == DN_OK ? dn_device_status(l->device) : status;
}
dn_status forward_layer(layer *l, network *net)
{
    dn_status status = require_arrays(l);
    if (status != DN_OK) return status;
    l->x = net->input;
    l->truth = net->truth;
    l->has_cost = l->delta_live = l->cost_at = 0;
    dn_hold_threads(1);   /* a workspace is made for so many */
    status = run(l, net, l->ops->forward);
    dn_hold_threads(0);
    return status;
}
/* The input is that of the last forward pass, to which the output and the statistics belong. */
dn_status backward_layer(layer *l, network *net)
{
    dn_status status = require_arrays(l);
    if (status != DN_OK) return status;
    if (!l->train) {
        return dn_fail(DN_ERR_ARGUMENT, "[%s] was made for inference: it has no delta", l->ops->name);
    }
    if (!l->x) return dn_fail(DN_ERR_ARGUMENT, "[%s] has not run forward yet", l->ops->name);
    net->input = l->x;
    dn_hold_threads(1);
    status = run(l, net, l->ops->backward);
    dn_hold_threads(0);
    return status;
}
#define LAYER(name, ID) \
    dn_status forward_##name##_layer(layer *l, network *net) { return forward_layer(l, net); } \
    dn_status backward_##name##_layer(layer *l, network *net) { return backward_layer(l, net); }
#include "layers.def"
#undef LAYER
