/* How batch normalization's work is cut: channels into tasks, and where maps are large, images into parts as
 * well. By shape alone: no sum depends on the number of threads. */
#ifndef DN_CHANNEL_GROUPS_H
#define DN_CHANNEL_GROUPS_H
#include "normalize_rows.h"
#include "parallel.h"

static inline int least(int64_t a, int b) { return a < b ? (int)a : b; }

/* Channels of a task: so many that what they hold of one image is worth a read, and fits in a stretch. */
enum { MOST_CHANNELS = 64, WORTH_A_READ = STRETCH / 4 };
static inline int channels_of_task(int spatial)
{
    const int channels = (WORTH_A_READ + spatial - 1) / spatial;
    return channels < MOST_CHANNELS ? channels : MOST_CHANNELS;
}

/* Of small maps a task owns channels, whole. Large ones are cut into parts of the images too, whose sums are
 * added in order: a thread then works on the images that it also convolves, for what another core wrote is
 * slow to read. All threads share a group of channels, so many as stay in their second-level caches from the
 * first read to the second. In double precision, which gradient checks are for, small maps are large. */
enum {
    PARTS = 8,
    PARTED_BYTES = sizeof(real) == sizeof(float) ? 256 << 10 : 2 << 10,
    GROUP_BYTES = 4 * PARTED_BYTES,
    MOST_GROUP = 8 * MOST_CHANNELS
};
static inline int parts_of(int batch, int filters, int spatial)
{
    if ((double)batch * filters * spatial * sizeof(real) < PARTED_BYTES) return 1;
    return batch < PARTS ? batch : PARTS;
}

/* Channels f0 .. f0 + channels of maps whose images are cut into parts. */
typedef struct {
    int batch, filters, spatial, parts, f0, channels, of_task;
} channel_group;
/* The group from f0 on: a whole number of tasks, or what is left. x and delta are held of each channel. */
static inline channel_group group_from(int64_t f0, int batch, int filters, int spatial)
{
    const int of_task = channels_of_task(spatial), most = MOST_GROUP / of_task;
    const int64_t tasks = GROUP_BYTES / (2 * sizeof(real) * batch * (int64_t)spatial * of_task);
    const int channels = of_task * (tasks < 1 ? 1 : least(tasks, most));
    return (channel_group){batch, filters, spatial, parts_of(batch, filters, spatial), (int)f0,
                           least(filters - f0, channels), of_task};
}
/* Every thread of the region goes through all groups and shares in each of the loops below. */
#define EACH_GROUP(g) \
    DN_PRAGMA(omp parallel num_threads(dn_num_threads())) \
    for (channel_group g = group_from(0, batch, filters, spatial); g.f0 < filters; \
         g = group_from((int64_t)g.f0 + g.channels, batch, filters, spatial))

/* A part of the images of some channels; `first` counts within the group. Parts vary slowest. */
typedef struct {
    int part, from, to, first, count;
} part_task;
static inline int tasks_of(const channel_group *g) { return (g->channels + g->of_task - 1) / g->of_task; }
static inline part_task task_of(const channel_group *g, int i)
{
    const int part = i / tasks_of(g), first = i % tasks_of(g) * g->of_task;
    return (part_task){part, (int)((int64_t)g->batch * part / g->parts),
                       (int)((int64_t)g->batch * (part + 1) / g->parts), first,
                       least(g->channels - first, g->of_task)};
}
#define EACH_PART_TASK(g) \
    DN_PRAGMA(omp for schedule(static)) for (int i = 0; i < (g)->parts * tasks_of(g); ++i)
#define EACH_CHANNEL(g) DN_PRAGMA(omp for schedule(static)) for (int j = 0; j < (g)->channels; ++j)

/* Two sums of each channel of a group, part by part, and added. */
typedef struct {
    double first, second;
} channel_sums;
static inline void keep_sums(const row_sums *of_task, const part_task *t, channel_sums *sums)
{
    channel_sums *const to = sums + t->part * MOST_GROUP + t->first;
    for (int j = 0; j < t->count; ++j) {
        to[j] = (channel_sums){total_of(of_task[j].first), total_of(of_task[j].second)};
    }
}
static inline channel_sums add_parts(const channel_sums *sums, int parts, int j)
{
    channel_sums all = sums[j];
    for (int part = 1; part < parts; ++part) {
        all.first += sums[part * MOST_GROUP + j].first;
        all.second += sums[part * MOST_GROUP + j].second;
    }
    return all;
}
#endif
