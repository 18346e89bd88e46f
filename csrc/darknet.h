/* The public header of darknetpy. The cffi cdef is this file after the C preprocessor (with DARKNET_CDEF), so
 * what Python sees and what C compiles cannot differ. Layers and networks are opaque; kernels work on plain
 * arrays. Nothing here prints or exits: whatever can fail returns a dn_status, and dn_last_error() says why. */
#ifndef DARKNET_H
#define DARKNET_H
#ifndef DARKNET_CDEF
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#endif
#include "real.h"

typedef enum {
    DN_OK = 0,
    DN_ERR_ARGUMENT = -1,
    DN_ERR_OPTION = -2,
    DN_ERR_MEMORY = -3,
    DN_ERR_DEVICE = -4
} dn_status;

typedef enum {
#define LAYER(name, ID) ID,
#include "layers.def"
#undef LAYER
    LAYER_TYPES
} LAYER_TYPE;

typedef enum {
#define ACTIVATION(name, ID) ID,
#include "activations.def"
#undef ACTIVATION
    ACTIVATIONS
} ACTIVATION;

typedef enum { SSE, MASKED, L1, SMOOTH, SEG, WGAN, COST_TYPES } COST_TYPE;
typedef enum {
    CONSTANT,
    STEP,
    STEPS,
    EXP,
    POLY,
    RANDOM,
    SIG,
    SGDR,
    LEARNING_RATE_POLICIES
} learning_rate_policy;

/* Which formulas batch normalization follows: the paper, or one fork's CPU code (for comparing numbers). */
typedef enum { BATCHNORM_PAPER, BATCHNORM_PJREDDIE, BATCHNORM_ALEXEYAB, BATCHNORM_MODES } batchnorm_mode;

/* What becomes of a mini-batch's mean and variance in the moving statistics that inference normalizes with.
 * Frozen: these stay, and training normalizes with them too. */
typedef enum {
    STATISTICS_EMA,
    STATISTICS_CUMULATIVE,
    STATISTICS_LAST,
    STATISTICS_FROZEN,
    STATISTICS_KINDS
} statistics_kind;

/* Whose values share a mean and a variance: of a channel in the mini-batch; of a group of channels in one
 * sample; of a whole sample; of one channel of one sample. */
typedef enum {
    NORMALIZE_NONE,
    NORMALIZE_BATCH,
    NORMALIZE_GROUP,
    NORMALIZE_LAYER,
    NORMALIZE_INSTANCE,
    NORMALIZATIONS
} normalization_kind;

/* What becomes of the weights that meet in one sum of a weighted [shortcut]. */
typedef enum { MIX_PLAIN, MIX_RELU, MIX_SOFTMAX, MIX_NORMALIZATIONS } mix_normalization;

enum { DN_SECRET_NUM = -1234 };        /* a truth that counts for nothing (Darknet's SECRET_NUM) */

typedef struct layer layer;
typedef struct network network;

/* ---- errors (thread-local) and threads */
const char *dn_last_error(void);
const char *dn_last_error_key(void);   /* the option at fault, "" if none */
enum { DN_MOST_THREADS = 1024 };       /* OpenMP ends the process where it cannot start a thread */
void dn_set_num_threads(int n);        /* threads of every kernel; results do not depend on it */
int dn_num_threads(void);

/* ---- shapes of the kernels that need more than (batch, filters, spatial) */

/* By which algorithm a convolution that allows several is computed: the fastest, by its shape alone; or one where
 * it applies. Inference only for F(6x6, 3x3): in training it stands for F(4x4, 3x3). */
typedef enum {
    CONVOLUTION_AUTO,
    CONVOLUTION_GEMM,
    CONVOLUTION_WINOGRAD4,
    CONVOLUTION_WINOGRAD6,
    CONVOLUTION_ALGORITHMS
} convolution_algorithm;

/* One convolution. pad is the padding in effect; out_h and out_w are given (AlexeyAB's do not count the
 * dilation); what lies outside the image is zero. x (batch, c, h, w), w (n, c/groups, size, size), y (batch,
 * n, out_h, out_w). */
typedef struct {
    int batch, c, h, w, n, groups, size, stride_x, stride_y, dilation, pad, out_h, out_w;
    convolution_algorithm algorithm;
    int kept; /* forward without statistics: w is as convolution_keep_weights() wrote it */
} conv_shape;

/* What is done to each output on its way to memory: activation(scale[filter] * sum + shift[filter]); NULL
 * leaves a part out. */
typedef struct {
    const real *scale, *shift;
    ACTIVATION activation;
    real *mean, *mean_rest, *variance; /* or NULL: written, of each filter's results; see batchnorm_arrays */
    int pool; /* of each square of 2 x 2 outputs the largest is stored, where convolution_takes_pool() */
} conv_epilogue;

/* One pooling: window (size x size) at output i starts at i * stride - offset; what lies outside does not
 * count. */
typedef struct {
    int batch, c, h, w, size, stride_x, stride_y, offset, out_h, out_w;
} pool_shape;

/* pjreddie's shortcut of unlike shapes: out (batch, c2, h2, w2) gets elements of from (batch, c1, h1, w1). */
typedef struct {
    int batch, w1, h1, c1, w2, h2, c2;
} overlap_shape;

/* The arrays of one batch normalization, each (filters,). mean_rest is what `mean` leaves out of the exact mean
 * of a mini-batch, less than half a unit in its last place; NULL: nothing. With a pool the output and its
 * delta are those of this max-pooling behind the activation (batchnorm_takes_pool). */
typedef struct {
    real *scales, *biases, *scale_updates, *bias_updates;
    real *mean, *mean_rest, *variance, *mean_delta, *variance_delta;
    const pool_shape *pool;
} batchnorm_arrays;

/* A parameter of a layer for the optimizer: n values w, their updates, the moments m and v that it keeps
 * beside them (velocity is m; NULL where it keeps none), and its weight decay. */
typedef struct {
    int n;
    real *w, *updates, *m, *v, decay;
} parameter_arrays;

/* What [yolo] (coords = 4) or [Gaussian_yolo] (8) is told, and its size; see yolo_rules.h. The lists are the
 * host's: anchors (num, 2), counters_per_class (classes), mask (slots), map (names); all but the first may be
 * NULL. */
typedef struct {
    int batch, h, w, coords, classes, slots, names, net_w, net_h, num, max, alexeyab, objectness_smooth,
        focal_loss, iou_loss, iou_thresh_kind, new_coords, yolo_point;
    real ignore_thresh, truth_thresh, iou_thresh, max_delta, label_smooth_eps, scale_x_y, iou_normalizer,
        obj_normalizer, cls_normalizer, uc_normalizer;
    const real *anchors, *counters_per_class;
    const int *mask, *map;
} yolo_rules;
/* The same of [region]; see region_rules.h. parents: of the nodes of a class tree (classes), -1 for roots;
 * map and parents may be NULL. */
typedef struct {
    int batch, h, w, coords, classes, names, num, max, alexeyab, softmax, rescore, bias_match, classfix,
        focal_loss, background, learns_priors;
    real coord_scale, object_scale, noobject_scale, class_scale, mask_scale, thresh;
    const real *anchors;
    const int *map, *parents;
} region_rules;
/* And of [detection]; see detection_rules.h. Where `draws`, boxes are drawn as numbers of (seed, purpose). */
typedef struct {
    int batch, side, classes, num, softmax, rescore, root, forced, draws;
    uint32_t purpose;
    uint64_t seed, first_row;
    real coord_scale, object_scale, noobject_scale, class_scale;
} detection_rules;
/* And of [iseg]; see iseg_rules.h. */
typedef struct {
    int batch, h, w, classes, ids;
} iseg_rules;
/* And of [contrastive]; see contrastive_rules.h. A map of `cells` has `anchors` embeddings of `size` values
 * each; one is compared with `most` others. */
typedef struct {
    int batch, anchors, cells, size, most;
    real temperature, cls_normalizer, max_delta;
} contrastive_rules;

/* ---- kernels: the CPU functions by name, and the table through which layers call them */
#define KERNEL(member, cpu, gpu, args) void cpu args;
#include "kernels.def"
#undef KERNEL

typedef struct {
#define KERNEL(member, cpu, gpu, args) void (*member) args;
#include "kernels.def"
#undef KERNEL
} kernels;

/* What the operands of matrix products and convolutions are rounded to before they are multiplied; their sums
 * and all arrays are of real. */
typedef enum { DN_FP32, DN_TF32, DN_FP16, DN_BF16, DN_PRECISIONS } dn_precision;

/* A device may begin all kernels of a pass at once, as a graph that it keeps for the next such pass. Of one:
 * how many kernels it had, in how many parts it was begun, and how many of these are graphs; how often graphs of
 * it were begun so far, and how many of their kernels have got other arguments since they were made. */
typedef struct dn_graphs dn_graphs;
typedef struct {
    int kernels, parts, graphs;
    int64_t begun, renewed;
} dn_graph_info;
typedef enum { DN_FORWARD, DN_FORWARD_TRAINING, DN_BACKWARD, DN_UPDATE, DN_LEARN, DN_PASSES } dn_pass;

/* And it may copy what a pass is to read while kernels run, in two lanes: begin_staged, once what is in the lane
 * is neither copied nor read any more; stage, for each array, which may change once it returns; wait_staged, before
 * kernels that read them; end_staged, behind these. */
typedef struct dn_staging dn_staging;
enum { DN_LANES = 2 };
enum { DN_STAGED_INPUT, DN_STAGED_TRUTH, DN_STAGED };

/* Where arrays lie and kernels run. The CPU's is the default; a GPU library brings another. */
typedef struct {
    const char *name;
    const kernels *k;
    void *(*allocate)(size_t bytes); /* zeros, at a multiple of 64 bytes at least; NULL: no memory */
    void (*release)(void *memory);
    dn_status (*push)(void *to, const void *host, size_t bytes);   /* both wait until the copy is done */
    dn_status (*pull)(void *host, const void *from, size_t bytes);
    dn_status (*status)(void);       /* of the first failure since it was last asked for; NULL: none can */
    const char *(*last_error)(void);
    void (*select)(int number); /* where the calling thread's kernels run from now on; NULL: there is one */
    void (*precision)(dn_precision precision); /* of the calling thread's products; NULL: none are rounded */
    int number;
    /* NULL: no graphs. Between begin_graph and end_graph kernels may be kept back: before memory that they use is
     * released, begin_kept begins them, as pull and push do. graph_parted says why that happened since it was
     * last asked; NULL: it did not. */
    dn_graphs *(*new_graphs)(void);
    void (*free_graphs)(dn_graphs *graphs);
    void (*begin_graph)(dn_graphs *graphs, int pass);
    void (*end_graph)(void);
    void (*begin_kept)(void);
    const char *(*graph_parted)(void);
    dn_graph_info (*graph_info)(const dn_graphs *graphs, int pass);
    dn_staging *(*new_staging)(void); /* NULL: the CPU */
    void (*free_staging)(dn_staging *staging);
    void (*begin_staged)(dn_staging *staging, int lane);
    void (*stage)(dn_staging *staging, int lane, int what, void *to, const void *host, size_t bytes);
    void (*wait_staged)(dn_staging *staging, int lane);
    void (*end_staged)(dn_staging *staging, int lane);
} dn_device;

size_t convolution_workspace(const conv_shape *s, int threads);
/* Of the same convolution again and again the weights may be kept in the order in which they are read:
 * convolution_kept_values() values, 0 where that gains nothing, for the SIMD level in effect. */
size_t convolution_kept_values(const conv_shape *s);
void convolution_keep_weights(const conv_shape *s, const real *w, real *kept);
/* Can such a max-pooling be done on the way to memory? On the CPU, by the algorithms that make squares. */
int convolution_takes_pool(const conv_shape *s);
size_t local_workspace(const conv_shape *s);
int conv_epilogue_fuses(ACTIVATION a);
void im2col_cpu(const real *image, int channels, int height, int width, int ksize, int stride, int pad,
                real *col);
void col2im_cpu(const real *col, int channels, int height, int width, int ksize, int stride, int pad,
                real *image);
const char *dn_simd_level(void);       /* "baseline", "avx2" or "avx512" */
int dn_simd(void);                     /* the same as a number, 0, 1, 2 */
int dn_set_simd_level(int level); /* 0, 1, 2; -1: the best this processor has. Returns the level in effect */

/* Memory at its fastest, for benchmarks: y = x; y = 0 where x is NULL; x is only read where y is NULL (the
 * exclusive or of its 64-bit words is returned). y is aligned to 16 bytes, bytes is a multiple of
 * DN_STREAM_PART. */
enum { DN_STREAM_PART = 1 << 18 };
uint64_t dn_stream(const void *x, void *y, size_t bytes);
/* Arithmetic at its fastest: every thread makes `steps` rounds of multiply-adds in registers, by the level in
 * effect. Returns how many multiplications and additions that were. */
double dn_multiply_adds(int64_t steps);
/* Two threads hand a word to one another and back, `trips` times (up to 2^30 - 1). Returns how often they
 * did: not once where two threads cannot be had. */
int dn_round_trips(int trips);

/* ---- random numbers, images and their augmentation */
#include "random.h"
#include "image_kernels.h"
#include "classifier_views.h"
#include "detector_views.h"

/* ---- boxes and detections */
#include "boxes.h"
#include "detections.h"

/* ---- names */
const char *get_layer_string(LAYER_TYPE t);
const char *get_activation_string(ACTIVATION a);
int get_activation(const char *name);  /* -1: unknown */

/* ---- layers: made in three steps, so that a wrong network is refused before anything is allocated */
layer *new_layer(LAYER_TYPE type);                                          /* NULL: no memory */
dn_status set_layer_option(layer *l, const char *name, double value);
dn_status set_layer_list(layer *l, const char *name, const double *values, int n);
dn_status shape_layer(layer *l, network *net, int batch, int h, int w,
                      int c); /* checks the options, finds the output's shape */
dn_status allocate_layer(layer *l, int train);
dn_status initialize_layer(layer *l, uint64_t seed); /* random start values of the parameters */
void free_layer(layer *l);
dn_status resize_layer(layer *l, network *net, int h, int w);               /* parameters keep their values */
layer *make_batchnorm_layer(int batch, int w, int h, int c); /* all steps at once; NULL: see dn_last_error */

dn_status forward_layer(layer *l, network *net);
dn_status backward_layer(layer *l, network *net);
dn_status update_layer(layer *l, int batch, real learning_rate, real momentum, real decay);
#define LAYER(name, ID) \
    dn_status forward_##name##_layer(layer *l, network *net); \
    dn_status backward_##name##_layer(layer *l, network *net);
#include "layers.def"
#undef LAYER
dn_status update_batchnorm_layer(layer *l, int batch, real learning_rate, real momentum, real decay);
dn_status resize_batchnorm_layer(layer *l, int w, int h);

typedef struct {
    LAYER_TYPE type;
    int index, batch, h, w, c, inputs, out_h, out_w, out_c, outputs, truths, has_cost, is_loss;
    double cost,
        flops; /* loss of the last forward, summed over the batch; multiply-adds times two, per image */
    size_t bytes, own_bytes;           /* of its arrays; without those in the network's arena */
} layer_info;
layer_info get_layer_info(const layer *l);
/* Boxes that a detector's head found in one image of its last forward pass, in rows of 5 + classes values: x, y
 * (the centre), w, h in shares of the network's input, objectness, and the probability of each class, 0 unless
 * above thresh. hier: how sure a class tree must be to go on to a child. -1: the layer is no head. */
int count_detections(const layer *l, int image, real thresh, real hier);
int get_detections(const layer *l, int image, real thresh, real hier, real *rows);
double get_layer_option(const layer *l, const char *name);                  /* NaN: no such option */

enum { DN_MAX_DIMS = 5 };
/* In .weights files: parameters and statistics; in checkpoints all but activations. */
typedef enum {
    ARRAY_PARAMETER,
    ARRAY_UPDATE,
    ARRAY_MOMENT,
    ARRAY_STATISTIC,
    ARRAY_COUNTER,
    ARRAY_STATE,
    ARRAY_ACTIVATION,
    ARRAY_KEPT                         /* worked out of others, and made anew where these may have changed */
} array_role;
typedef struct {
    const char *name;
    array_role role;
    int is_int, is_lent;               /* is_lent: another layer's, which counts and saves it */
    int is_shared;                     /* lies where other arrays do, too: see memory_plan.c */
    int dims, dim[DN_MAX_DIMS];
    size_t count, bytes;               /* bytes: that it takes; 0 where it is not kept */
    int on_device;                     /* data is no address of the host's: copy it with the two below */
    void *data;                        /* NULL where the layer has no use for it now, or it is shared */
} layer_array;
int count_layer_arrays(const layer *l);
layer_array get_layer_array(const layer *l, int i); /* parameters and statistics come in .weights order */
dn_status pull_layer_array(const layer *l, int i, void *to);         /* all of its values */
dn_status push_layer_array(layer *l, int i, const void *from);
/* Whoever writes to a layer's weights lends them before and returns them after: in between, and where they
 * have been lent since the last pass, nothing that was worked out of them is relied on. */
void lend_layer_weights(layer *l);
void return_layer_weights(layer *l);
/* The layers that a composed one is made of (and owns): [rnn] of three connected ones, say. */
typedef struct {
    const char *name;                  /* NULL: there are no more */
    layer *layer;
} layer_part;
layer_part get_layer_part(const layer *l, int i);

/* ---- networks: layers in order; a network does not own its layers */
network *make_network(void);
void free_network(network *net);
void set_network_device(network *net, const dn_device *device); /* before any layer is added; NULL: the CPU */
dn_status set_network_option(network *net, const char *name, double value);
double get_network_option(const network *net, const char *name);
dn_status set_network_steps(network *net, const double *steps, const double *scales, int n);
dn_status add_layer(network *net, layer *l); /* shapes it; nothing is allocated, and what is keeps its size */
dn_status remove_layer(network *net, int index); /* links to it then lead to the one before */
/* Which activations share memory, see memory_plan.c; after the last layer, before the two that follow. */
dn_status plan_network(network *net);
size_t network_bytes(const network *net);                                   /* SIZE_MAX: beyond counting */
typedef struct {
    size_t arena, workspace;           /* bytes; SIZE_MAX: beyond counting */
    size_t staged;                     /* inputs and truths on a device */
} network_memory;
network_memory get_network_memory(const network *net);
dn_status allocate_network(network *net);
dn_status resize_network(network *net, int h, int w);

/* The arrays that a pass reads; referenced, not copied. delta: where the gradient at the input goes, NULL:
 * nowhere; add: 0 to write it, 1 to add. */
void set_network_input(network *net, const real *input);
void set_network_truth(network *net, const real *truth);
void set_network_delta(network *net, real *delta, int add);
void set_network_train(network *net, int train);

/* Begins the copy of what the next forward pass on these arrays reads to the network's device, while kernels run
 * there; they must stay as they are until then. Nothing happens on the CPU. */
dn_status stage_network(network *net, const real *input, const real *truth);
dn_status forward_network(network *net);
dn_status backward_network(network *net);
dn_status update_network(network *net);
dn_status learn_network(network *net); /* the last two at once */
/* The graphs of the last pass of a kind, where the network's device makes them; and why it was not one graph:
 * "": it was, or no pass was kept. */
dn_graph_info get_graph_info(const network *net, dn_pass pass);
const char *get_graph_reason(const network *net, dn_pass pass);
double network_cost(const network *net); /* mean over the layers that have a cost */
real get_current_rate(const network *net);
uint64_t get_seen(const network *net); /* rows passed forward in training */
void set_seen(network *net, uint64_t seen);
uint64_t get_updates(const network *net); /* steps of the optimizer so far; Adam counts them */
void set_updates(network *net, uint64_t updates);
uint64_t get_seed(const network *net); /* of every random number of the network */
void set_seed(network *net, uint64_t seed);

#ifndef DARKNET_CDEF
#ifdef __cplusplus
}
#endif
#endif
#endif
