/* How a 3x3 convolution is cut into Winograd's tiles, tasks and memory: by shape alone. The algorithm stands
 * in winograd_body.h, its transforms in winograd_transforms_body.h. */
#ifndef DN_WINOGRAD_H
#define DN_WINOGRAD_H
#include "engine.h"

/* Tiles of m x m outputs, of all images side by side. A row of tiles is one strip, or where it is wide,
 * several; a block is some strips, in the order of memory. */
typedef struct {
    int m;                                   /* 0: not by Winograd's algorithm */
    int side;                                /* points of a tile on one axis */
    int phases;                              /* of the input: 1, or with stride 2 four */
    int down, across;                        /* tiles of an image */
    int strips;                              /* of a row of tiles */
    ptrdiff_t all, blocks;                   /* strips and blocks of all images */
    int tiles;                               /* of a block, at most */
    int shares;                              /* of the filters: a task is a block x a share */
    int panels;                              /* with weights that are kept: of the filters */
    int filter_parts, channel_parts, chunks; /* tasks of the weight gradient: see winograd_gradient() */
    int rows, line;                          /* of a task's sums at a point: filters, values of each */
} winograd_cut;

/* Strips have at most 16 tiles, with stride 2 seven; a band of strips is gathered in BAND vectors, or one
 * strip of 6x6 tiles in more. */
enum { STRIP_TILES = 16, STRIDED_TILES = 7, BAND = 512, MOST_SIDE = 8 };
enum { STRIP_COLUMNS = STRIP_TILES * (MOST_SIDE - 2) + 2, GATHERED = MOST_SIDE * STRIP_COLUMNS };

winograd_cut cut_winograd(const conv_product *p);
winograd_cut cut_winograd_gradient(const conv_product *p);
/* All phases (PHASES) of a backward pass for data with stride 2: tiles of dy, from which twice as many inputs
 * follow each way. */
winograd_cut cut_strided_data(const conv_product *p);
/* Values of workspace. */
size_t winograd_workspace(const conv_product *p, const winograd_cut *cut, size_t threads);
size_t winograd_gradient_workspace(const conv_product *p, const winograd_cut *cut, size_t threads);
size_t strided_data_workspace(const conv_product *p, const winograd_cut *cut, size_t threads);

/* Tiles of BAND_ROWS outputs one above the other, for few channels (winograd_rows_body.h): an image is cut
 * into `blocks` of at most `most` bands of them. Rows of points are `pitch` apart; an image begins at their
 * column `left`. */
enum { BAND_ROWS = 4, ROW_POINTS = BAND_ROWS + 2 };
typedef struct {
    int blocks, most, left, pitch; /* blocks 0: not so */
    int width, chunks; /* of the weight gradient: columns of a row of dy's points; chunks of all blocks */
} row_winograd_cut;
row_winograd_cut cut_row_winograd(const conv_product *p);
row_winograd_cut cut_row_gradient(const conv_product *p);
enum { GRADIENT_FILTERS = 4 };

/* Row length for n values: rows of a multiple of eight 64-byte lines would share few sets of the cache, so do
 * planes, which are therefore SKEW values longer. */
enum { SKEW = 16 };
static inline size_t winograd_row(int n)
{
    const int lines = (int)pieces(n, FILTER_UNIT);
    return (size_t)(lines + (lines % 8 == 0)) * FILTER_UNIT;
}
static inline size_t winograd_plane(const winograd_cut *cut, size_t row) { return cut->tiles * row + SKEW; }
static inline int winograd_points(const winograd_cut *cut) { return cut->side * cut->side; }
/* Rows of V's and U's points: the phases of the channels one after the other. */
static inline size_t points_row(const winograd_cut *cut, int channels)
{
    return winograd_row(channels * cut->phases);
}
/* With stride 2 (winograd_strided_body.h): the points of an axis; phases of tap 1 lack the last. Whether a
 * phase has point e, its place among those that have it, and their number. */
enum { STRIDED_SIDE = 5, STRIDED_LAST = STRIDED_SIDE - 1, STRIDED_POINTS = STRIDED_SIDE * STRIDED_SIDE };
static inline int is_last_y(int e) { return e / STRIDED_SIDE == STRIDED_LAST; }
static inline int is_last_x(int e) { return e % STRIDED_SIDE == STRIDED_LAST; }
static inline int has_point(int phase, int e)
{
    return !(phase / 2 && is_last_y(e)) && !(phase % 2 && is_last_x(e));
}
static inline int phase_place(int phase, int e) { return phase == 2 && is_last_x(e) ? 1 : phase; }
static inline int phases_with(int e) { return (is_last_y(e) ? 1 : 2) * (is_last_x(e) ? 1 : 2); }
static inline int phases_at(const winograd_cut *cut, int e) { return cut->phases == 1 ? 1 : phases_with(e); }
/* Tiles of strips from .. upto. */
static inline int count_tiles(const winograd_cut *cut, ptrdiff_t from, ptrdiff_t upto)
{
    int tiles = 0;
    for (ptrdiff_t i = from; i < upto; ++i) {
        const int piece = (int)(i % cut->strips);
        tiles += part_of(cut->across, piece + 1, cut->strips) - part_of(cut->across, piece, cut->strips);
    }
    return tiles;
}
/* A backward pass for data with stride 2 transforms the weights of so many channels and vectors of filters at
 * a time. */
enum { STRIDED_CHANNELS = 32, STRIDED_VECTORS = 2 };

/* Where the weights are kept: the channels whose points are in the cache at once, and the values of a chunk
 * of V, of a panel's U and of its M. */
enum { KEPT_CHANNELS = 64 };
static inline int kept_channels(const winograd_cut *cut) { return KEPT_CHANNELS / cut->phases; }
static inline size_t kept_v_chunk(const winograd_cut *cut)
{
    return (size_t)winograd_points(cut) * (cut->tiles * KEPT_CHANNELS + SKEW);
}
static inline size_t kept_panel(const winograd_cut *cut, int rows)
{
    return (size_t)winograd_points(cut) * (rows * MOST_WIDTH + SKEW);
}
/* Are the transformed weights used by several tasks, and made once for all? If not, they are made for so many
 * channels at a time. */
enum { PANEL_CHANNELS = 128 };
static inline int panel_channels(const winograd_cut *cut)
{
    return cut->phases == 1 ? PANEL_CHANNELS : kept_channels(cut); /* to sum in the order of kept weights */
}
static inline int winograd_ahead(const winograd_cut *cut) { return cut->blocks > 1 && cut->phases == 1; }
/* A row of points has so many channels with all their phases, then the next so many. */
static inline int place_in_row(const winograd_cut *cut, int channel, int together)
{
    const int first = channel - channel % together;
    return first * cut->phases + channel - first;
}
#endif
