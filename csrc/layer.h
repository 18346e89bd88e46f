/* Inside the core: what a layer type states about itself (its options, its arrays, its passes) and the
 * network. */
#ifndef DN_LAYER_H
#define DN_LAYER_H
#include "darknet.h"

/* ---- errors: DN_FAIL returns the status, so that `return dn_fail(...)` ends a function */
dn_status dn_fail(dn_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
dn_status dn_fail_in_layer(dn_status status, int index);
dn_status dn_fail_option(const char *key, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- options: name in the .cfg -> field of the layer's struct. Types, defaults and ranges for users are
 * declared in Python. */
typedef enum { OPTION_INT, OPTION_REAL, OPTION_LIST, OPTION_REALS } option_kind;
typedef struct {
    const char *name;
    option_kind kind;
    size_t offset;
} option_spec;
typedef struct {
    int n;
    int *values;
} int_list;
typedef struct {
    int n;
    real *values;
} real_list;
#define OPTION(type, name, field, KIND) {name, OPTION_##KIND, offsetof(type, field)}
#define END_OF_OPTIONS {0, 0, 0}

/* ---- arrays: one table per layer type; allocation, resize, free, .weights order, optimizer and Python names
 * follow from it */
typedef struct {
    int dims, dim[DN_MAX_DIMS];      /* dims 0: this layer has no such array */
} dn_shape;
typedef enum {
    TRAIN_ONLY = 1,
    DECAYS = 2,
    IS_INT = 4,
    BORROWED = 8,
    SHARED = 16
} array_flags; /* BORROWED: points to what another layer owns; SHARED: lies in the network's arena */
typedef struct {
    const char *name;
    size_t offset;
    dn_shape (*shape)(const layer *l);
    array_role role;
    int flags;
} array_spec;
#define ARRAY(type, field, name, shape, ROLE, flags) {name, offsetof(type, field), shape, ARRAY_##ROLE, flags}
#define END_OF_ARRAYS {0, 0, 0, 0, 0}
/* A parameter is five rows in this order: the values, their gradient (and momentum), two moments for Adam,
 * and the values' moving average. */
#define PARAMETER_FIELDS(field, updates) real *field, *updates, *field##_m, *field##_v, *field##_ema
#define PARAMETER(type, prefix, field, updates, shape, flags) \
    ARRAY(type, prefix field, #field, shape, PARAMETER, flags), \
    ARRAY(type, prefix updates, #updates, shape, UPDATE, (flags) | TRAIN_ONLY), \
    ARRAY(type, prefix field##_m, #field "_m", shape, MOMENT, (flags) | TRAIN_ONLY), \
    ARRAY(type, prefix field##_v, #field "_v", shape, MOMENT, (flags) | TRAIN_ONLY), \
    ARRAY(type, prefix field##_ema, #field "_ema", shape, MOMENT, (flags) | TRAIN_ONLY)

/* ---- parts: a composed layer owns others, a pointer each in its struct. Options that it lacks itself are
 * theirs, and whatever is done to its arrays is done to theirs. */
typedef struct {
    const char *name;
    size_t offset;
    LAYER_TYPE type;
} part_spec;
enum { DN_MOST_PARTS = 11 };
#define PART(type, name, TYPE) {#name, offsetof(type, name), TYPE}
#define END_OF_PARTS {0, 0, 0}

/* ---- what a backward pass reads of what the forward pass left, besides the layer's own arrays; without a
 * statement of the type, both */
enum { READS_INPUT = 1, READS_OUTPUT = 2 }; /* INPUT: those of linked layers, too */

/* ---- a layer type */
typedef struct layer_ops {
    const char *name;
    size_t size;                                           /* of its struct, which begins with `layer base` */
    const option_spec *options;
    const array_spec *arrays;
    const part_spec *parts;
    dn_status (*shape)(layer *l, network *net); /* from options and input to out_*; checks all of them */
    dn_status (*forward)(layer *l, network *net);
    dn_status (*backward)(layer *l, network *net);
    /* The gradient of the weights alone, from inputs and deltas of `rows` rows: parts of several steps leave
     * it out of their backward passes and make it at once (part_gradients). NULL: backward always does. */
    void (*gradients)(layer *l, network *net, int rows);
    void (*initialize)(layer *l, uint64_t seed);           /* NULL: parameters keep their zeros and ones */
    int (*backward_reads)(const layer *l);                 /* NULL: READS_INPUT | READS_OUTPUT */
    /* A pool's windows, without a size where it does more than pool; and: can a layer take such windows of
     * its output on the way? NULL: is none; cannot. */
    pool_shape (*windows)(const layer *l);
    int (*takes_pool)(const layer *l, const pool_shape *windows);
    size_t links;                                          /* of the int_list of layers it reads; 0: none */
    void (*joins)(layer *l, network *net); /* says with dn_lie_within() which outputs are parts of others */
    size_t (*workspace)(const layer *l);                   /* number of reals; NULL: none */
    double (*flops)(const layer *l);
    void (*release)(layer *l);
    int (*detections)(const layer *l, int row, real thresh, real hier,
                      real *rows);                         /* see count_detections; NULL: no boxes */
    int (*box_size)(const layer *l); /* values of a row of its truth, which begins with a box; NULL: no boxes */
    size_t normalization; /* where its struct holds a `normalization`; 0: nowhere */
    int is_loss; /* its forward pass writes its own delta, given a truth */
    int ends;    /* nobody's delta reaches its output: it is a cost, not a value */
} layer_ops;

struct layer {
    const layer_ops *ops;
    LAYER_TYPE type;
    int index;                       /* place in the network, -1 alone */
    int steps;                       /* passes whose activations it keeps one after the other; 1 but in parts */
    int batch, h, w, c, inputs, out_h, out_w, out_c, outputs, truths;
    real learning_rate;              /* factor of the network's */
    int stopbackward, onlyforward, dont_update, burnin_update, train_only_bn;
    int truth_source;                /* its output is the truth of the layers after it */
    int64_t lent, written;           /* how often its weights are lent now; lent or written to up to now */
    int64_t kept_from, kept_as;      /* `written` when what it keeps was made, -1: nothing; and for what */
    struct layer *lender;            /* whose parameters, updates and statistics it shares; or NULL */
    int grad_centr;                  /* each filter's gradient loses its mean */
    real clip;                       /* weights stay within plus and minus this; 0: anywhere */
    int adam, velocity, averaged;    /* optimizer of the network: which moments to keep */
    int fused, train;
    int convolution;                 /* the algorithm asked for; see dn_convolution() */
    int complete;                    /* all arrays that it needs are allocated */
    int shared, input_shared;        /* its activations, or its input, lie in the network's arena */
    struct layer *pool;              /* whose output it writes, its own having no place; or NULL */
    int pooled;                      /* the layer before does so with this one */
    struct layer *home;              /* in whose output its own lies, from value home_at on; or NULL */
    size_t home_at;
    int has_cost;                    /* the last forward pass had a truth: delta holds the loss's own */
    int delta_live;                  /* delta holds what the output's consumers sent in this backward pass */
    double cost;
    int cost_at; /* place of its cost among those that the pass gathers; 0: none */
    real *output, *delta;
    const real *x;                   /* its input in the last forward pass; NULL before, and after a resize */
    const real *truth;               /* of the last forward pass, or NULL */
    const dn_device *device;         /* where its arrays lie; counters are always the host's */
};
extern const layer_ops *const layer_table[LAYER_TYPES];

/* Memory of a device that grows with what is asked of it. */
typedef struct {
    void *memory;
    size_t bytes;
} dn_buffer;

struct network {
    const kernels *k; /* the device's */
    const dn_device *device;
    int n, capacity, batch, h, w, c, inputs, subdivisions, train, fused;
    dn_precision precision;
    int recompute; /* forward passes average the mini-batches' statistics, whatever train says */
    layer **layers;
    const real *input, *truth;       /* of the layer at work */
    real *delta;
    int *delta_live;
    const real *net_input, *net_truth;   /* of the network, in the host's memory */
    real *net_delta;
    dn_buffer device_delta, device_sums;                      /* where the device is another */
    dn_buffer device_input[DN_LANES], device_truth[DN_LANES]; /* see staging.c */
    dn_staging *staging;
    int lane, is_ahead; /* of the last pass; the other one holds what is announced */
    const real *ahead_input, *ahead_truth;
    double *costs; /* on the device: those that the pass gathers until its end; NULL: it does not */
    int n_costs;
    int net_delta_live, no_delta_live;
    int graph; /* passes may be graphs of their device */
    dn_graphs *graphs;
    int keeps; /* the pass under way is kept for a graph, and which one that is */
    dn_pass pass;
    char graph_reasons[DN_PASSES][160]; /* why the last such pass was not one graph; "": it may have been */
    dn_buffer workspace;
    int keep_activations; /* each array has memory of its own; 0: see memory_plan.c */
    void *arena;
    size_t arena_bytes;
    int watch, first_not_finite; /* watch: forward passes look for the first such output; -1: none */
    uint64_t seen, seed, updates;    /* updates: steps of the optimizer so far */
    /* the optimizer; names as in [net] */
    learning_rate_policy policy;
    real learning_rate, learning_rate_min, momentum, decay, decay_l1, max_gradient, gamma, scale, power;
    real ema_alpha; /* share of the old value in the parameters' moving averages; 0: there are none */
    int averages;   /* updates that these averages have seen */
    int adam, burn_in, step, max_batches, sgdr_cycle, sgdr_mult, n_steps;
    real b1, b2, eps;
    double *steps, *step_scales;
};

/* Where a layer sends the delta of one of its inputs: to is NULL where nobody wants it; add, where something
 * is there already. */
typedef struct {
    real *to;
    int add;
} delta_sink;
delta_sink input_sink(network *net);                  /* of the layer's own input */
delta_sink link_sink(network *net, int index);        /* of the output of layer `index` */

const kernels *cpu_kernels(void);
const dn_device *dn_host(void);
int dn_is_host(const dn_device *device);
dn_status dn_check_device(const layer *l, const network *net); /* that they are on one */
void dn_select(const dn_device *device); /* before kernels run there */
void dn_set_precision(const dn_device *device, dn_precision precision);
dn_status dn_device_status(const dn_device *device);  /* of what its kernels met; says it with dn_fail */
/* Adds to the error that was just reported what the device has to say of it; returns `failed`. */
dn_status dn_add_reason(const dn_device *device, dn_status failed);
/* At least so many bytes; what was in it may be lost. NULL: no memory, and dn_last_error says so. */
void *dn_buffer_of(const dn_device *device, dn_buffer *buffer, size_t bytes, const char *what);
void dn_release_buffer(const dn_device *device, dn_buffer *buffer);
/* k->sum or k->sum_squares; its result. */
typedef void (*dn_sum_kernel)(int n, const real *x, double *sum);
double dn_sum(network *net, dn_sum_kernel kernel, int n, const real *x);
/* Places on the device for so many of them, at which the host looks only once: dn_pull_sums. NULL: no memory. */
double *dn_device_sums(network *net, int count);
dn_status dn_pull_sums(const network *net, const double *from, int count, double *sums);
/* What a pass reads, where its kernels find it; behind the last of these dn_end_stage. See staging.c. */
dn_status dn_stage_pass(network *net);
void dn_end_stage(network *net);
void dn_forget_staged(network *net);
void dn_free_staging(network *net);
int dn_truth_is_staged(const network *net); /* the truth of the layer at work is the host's own */
typedef struct {
    size_t input, truth;
} dn_stage_sizes; /* in bytes */
size_t dn_staged_bytes(const network *net);
/* The host's part of a layer elsewhere: on copies of its arrays. */
dn_status dn_initialize_on_host(layer *l, uint64_t seed);
/* *copy is the caller's to free; NULL where it fails. */
dn_status dn_host_copy(const dn_device *device, const real *from, size_t values, real **copy);
int dn_detections_on_host(const layer *l, int image, real thresh, real hier, real *rows);
void *dn_allocate(size_t bytes);                      /* 64-byte aligned and zeroed; NULL without memory */
void dn_release(void *memory);
real *dn_workspace(network *net,
                   size_t reals); /* at least so many; NULL without memory (dn_last_error says so) */
/* Sets out_* and outputs; refuses sizes below 1 and beyond int. */
dn_status dn_set_output(layer *l, int64_t h, int64_t w, int64_t c);
dn_status dn_set_plain_output(layer *l, int64_t outputs); /* the same of values that are no image */
/* Gives the layer another input; refused, without a change, where an array that it holds, of a role up to
 * `kept`, would change its size. */
dn_status dn_reshape_layer(layer *l, network *net, int batch, int h, int w, int c, array_role kept);
dn_status dn_resize_layer(layer *l, network *net, int h, int w, int c);   /* arrays but parameters made anew */
dn_status dn_require_image(const layer *l);
/* A list of one layer before this one, as `key` names it. */
dn_status dn_one_link(const layer *l, const network *net, const char *key, const int_list *links);
dn_status dn_option_in(const layer *l, const char *key, double value, double low, double high);
const option_spec *dn_find_option(const option_spec *options, const char *name);   /* NULL: no such option */
dn_status dn_take_option(const option_spec *option, void *to, double value);
double dn_option_value(const option_spec *option, const void *from);   /* NaN: no number */
void dn_hold_threads(int hold);   /* on this thread, while on, dn_num_threads() does not change */
/* May what a layer keeps of its weights, made `as` something, be relied on? If not, it may be made now where
 * nobody has them on loan: DN_MAKE. */
typedef enum { DN_LEAVE, DN_MAKE, DN_RELY } dn_kept;
dn_kept dn_ask_kept(layer *l, int64_t as);
int dn_overflows(size_t a, size_t b, size_t *product);
array_spec dn_array_row(const layer *l, int i);       /* rows common to all types first; name NULL: no more */
real *dn_array_data(const layer *l, const array_spec *row);
void **dn_array_field(const layer *l, const array_spec *row);
size_t dn_array_bytes(const layer *l, const array_spec *row); /* 0: not kept; SIZE_MAX: beyond counting */
size_t dn_array_count(const layer *l, const array_spec *row);
/* Points the activations of a layer that keeps several passes at those of `passes` passes later. */
void dn_move_activations(layer *l, int passes);
/* l, then each of its parts that its options ask for; NULL after the last. */
layer *dn_next_part(const layer *l, const layer *p);
void dn_tell_parts(layer *l, int train); /* what they take over from the whole */
#define FOR_PARTS(p, l) for (layer *p = (layer *)(l); p; p = dn_next_part(l, p))
convolution_algorithm dn_convolution(const layer *l); /* of its convolutions: F(6x6, 3x3) is for inference */
size_t dn_convolution_workspace(const layer *l, const conv_shape *s); /* GPU kernels need none */
/* Remembers why the pass is more than one graph, if it has just become so: in a layer, or where. */
void dn_note_parts(network *net, const layer *l, const char *where);
/* The cost is the kernel's sum over all values of the output's number; known when the network's pass ends. */
void dn_find_cost(layer *l, network *net, dn_sum_kernel kernel, const real *x);
void dn_loss(layer *l, network *net,
             const real *loss); /* the cost is the sum of loss, the delta is the loss's own */

dn_status dn_place_activations(network *net);         /* of an arena as plan_network() has it */
void dn_forget_activations(layer *l);                 /* of a layer that leaves the arena */
void dn_lie_within(layer *inner, layer *outer, size_t at);   /* for joins: see memory_plan.c */

dn_status dn_update_network_layers(network *net, real rate);
double dn_updates_before(const network *net);         /* the one that the current mini-batch belongs to */
int dn_layers_without_gradient(const network *net);   /* so many from the first on, in this backward pass */
void dn_fill_random(real *x, int n, real scale, int uniform, uint64_t seed,
                    int layer_index); /* scale times N(0, 1) or U(-1, 1) */

/* The activation that ends a layer, in place: output = f(output), delta *= f'. before: a copy of what f gets,
 * of shape dn_shape_before_activation, where f' needs it; else NULL. */
dn_shape dn_shape_before_activation(const layer *l, ACTIVATION a);
void dn_activate_output(const layer *l, const kernels *k, ACTIVATION a, real *before);
void dn_activate_delta(const layer *l, const kernels *k, ACTIVATION a, const real *before);
int dn_activation_reads(ACTIVATION a); /* what of READS_* that needs */
int dn_reads_nothing(const layer *l);

/* shapes that several types share */
dn_shape shape_output(const layer *l); /* (batch, c, h, w), or (batch, outputs) without geometry */
dn_shape shape_input(const layer *l);
dn_shape dn_dims(int dims, int a, int b, int c, int d);
#endif
