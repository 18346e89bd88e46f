/* Labels and loss of [contrastive]; contrastive_rules.h has the formulas. */
#include "contrastive_rules.h"

/* labels and kinds (batch, slots, h, w): where an anchor learns a box of truth (batch, max, 6), its track and
 * its class; others stay. */
void contrastive_label_boxes_cpu(const yolo_rules *r, const real *truth, real *labels, real *kinds)
{
    const size_t rows = (size_t)r->max * yolo_truth_size(r), places = (size_t)r->slots * yolo_area(r);
    for (int b = 0; b < r->batch; ++b) {
        const int n = dn_count_rows(truth + b * rows, r->max, yolo_truth_size(r));
        contrastive_label_image(r, truth + b * rows, n, 0, 1, labels + b * places, kinds + b * places);
    }
}
/* labels[b] = the most probable class of truth (batch, classes); without one that of a pair of images */
void contrastive_label_images_cpu(int batch, int classes, const real *truth, real *labels)
{
    for (int b = 0; b < batch; ++b) {
        labels[b] = contrastive_label_of(truth + (size_t)b * classes, classes, b);
    }
}

/* The n samples at work: their embeddings' directions (n, size), 1 / length, and cosines with one of them. */
typedef struct {
    const contrastive_rules *r;
    const real *labels, *kinds;
    int n, *samples, *partners;
    real *unit, *inverse, *cosine, *delta, *loss;
} samples_at_work;

static int list_samples(const contrastive_rules *r, const real *labels, int *samples)
{
    int n = 0;
    for (int p = 0; p < contrastive_places(r); ++p) {
        if (labels[p] >= 0) samples[n++] = p;
    }
    return n;
}
static void find_directions(const samples_at_work *w, const real *z)
{
    const contrastive_rules *r = w->r;
    for (int i = 0; i < w->n; ++i) {
        const real *from = z + contrastive_first_value(r, w->samples[i]);
        real *unit = w->unit + (size_t)i * r->size;
        double squares = 0;
        for (int e = 0; e < r->size; ++e) {
            unit[e] = from[(size_t)e * r->cells];
            squares += (double)unit[e] * unit[e];
        }
        w->inverse[i] = contrastive_inverse(squares);
        for (int e = 0; e < r->size; ++e) unit[e] *= w->inverse[i];
    }
}
static inline void add_slopes(real pull, real inverse, real between, int size, const real *restrict own,
                              const real *restrict other, int step, real *restrict delta)
{
    for (int e = 0; e < size; ++e) {
        delta[(size_t)e * step] += contrastive_slope(pull, inverse, between, own[e], other[e]);
    }
}
/* delta += pull * d cosine(i, j) / d embedding i; values side by side become vector code */
static void pull_one(const samples_at_work *w, int i, int j, real between, real pull)
{
    const contrastive_rules *r = w->r;
    const real *own = w->unit + (size_t)i * r->size, *other = w->unit + (size_t)j * r->size;
    real *delta = w->delta + contrastive_first_value(r, w->samples[i]);
    if (r->cells == 1)
        add_slopes(pull, w->inverse[i], between, r->size, own, other, 1, delta);
    else
        add_slopes(pull, w->inverse[i], between, r->size, own, other, r->cells, delta);
}
static void pull_both(const samples_at_work *w, int i, int j, real pull)
{
    pull_one(w, i, j, w->cosine[j], pull);
    pull_one(w, j, i, w->cosine[j], pull);
}
/* Lists what i is compared with in `partners`: the others from its front on, the same ones from its end. */
static int list_partners(const samples_at_work *w, int i, int *same)
{
    const int own = w->samples[i], size = w->r->size;
    int others = 0;
    *same = 0;
    for (int j = 0; j < w->n; ++j) {
        const int p = w->samples[j], alike = w->labels[p] == w->labels[own];
        if (j == i || w->kinds[p] != w->kinds[own] || (!alike && others == w->r->most)) continue;
        w->partners[alike ? w->n - ++*same : others++] = j;
        w->cosine[j] = contrastive_cosine(w->unit + (size_t)i * size, w->unit + (size_t)j * size, size);
    }
    return others;
}
static real train_sample(const samples_at_work *w, int i)
{
    const contrastive_rules *r = w->r;
    contrastive_sums s = {-1, 0, 0, 0};
    const int n = list_partners(w, i, &s.same), *others = w->partners, *alike = others + w->n - s.same;
    real loss = 0;
    if (!s.same || !n) return 0;
    for (int k = 0; k < n; ++k) s.most = w->cosine[others[k]] > s.most ? w->cosine[others[k]] : s.most;
    for (int k = 0; k < n; ++k) s.sum += contrastive_term(r, s.most, w->cosine[others[k]]);
    for (int k = 0; k < s.same; ++k) {
        const real cosine = w->cosine[alike[k]], share = contrastive_share(r, &s, cosine);
        loss += contrastive_loss(r, &s, cosine);
        pull_both(w, i, alike[k], share / r->temperature);
        s.pulled += share;
    }
    for (int k = 0; k < n; ++k) pull_both(w, i, others[k], contrastive_push(r, &s, w->cosine[others[k]]));
    return loss;
}
/* z, delta and loss are (batch, anchors, size, cells), the latter two begin as zeros; labels (batch, anchors,
 * cells), below 0: takes no part; workspace: (size + 2) values per place. The loss of an embedding stands at
 * its first value. One sample after the other: each adds to the deltas of all that it is compared with. */
void contrastive_train_cpu(const contrastive_rules *r, const real *z, const real *labels, const real *kinds,
                           int *samples, int *partners, real *delta, real *loss, real *workspace)
{
    const int n = list_samples(r, labels, samples);
    real *inverse = workspace + (size_t)n * r->size;
    const samples_at_work w = {r,         labels,  kinds,       n,     samples, partners,
                               workspace, inverse, inverse + n, delta, loss};
    find_directions(&w, z);
    for (int i = 0; i < n; ++i) loss[contrastive_first_value(r, samples[i])] = train_sample(&w, i);
    for (size_t i = 0; i < (size_t)contrastive_places(r) * r->size; ++i) {
        delta[i] = contrastive_limited(delta[i], r->max_delta);
    }
}
