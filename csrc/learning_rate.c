/* Learning rate of the next update: Darknet's policies, after N = seen / (batch * subdivisions) of them. */
#include "layer.h"
#include "random.h"
#include <math.h>

#define PI 3.14159265358979323846

static double steps_factor(const network *net, double n)
{
    double factor = 1;
    for (int i = 0; i < net->n_steps && net->steps[i] <= n; ++i) factor *= net->step_scales[i];
    return factor;
}
/* Cosine annealing with warm restarts, arXiv:1608.03983: cycles of sgdr_cycle updates, each sgdr_mult times
 * as long as the last. */
static double sgdr_rate(const network *net, double n)
{
    double last = 0, cycle = net->sgdr_cycle > 0    ? net->sgdr_cycle
                             : net->max_batches > 0 ? net->max_batches
                                                    : 1;
    const double mult = net->sgdr_mult > 0 ? net->sgdr_mult : 1;
    if (mult == 1 && n > cycle) last = (ceil(n / cycle) - 1) * cycle;
    while (last + cycle < n) {
        last += cycle;
        cycle *= mult;
    }
    const double low = net->learning_rate_min;
    return low + .5 * (net->learning_rate - low) * (1 + cos(PI * (n - last) / cycle));
}

real get_current_rate(const network *net)
{
    const double each = (double)net->batch * net->subdivisions, rate = net->learning_rate;
    const double n = floor((double)net->seen / (each > 0 ? each : 1));
    if (n < net->burn_in) return (real)(rate * pow(n / net->burn_in, net->power));
    switch (net->policy) {
    case STEP: return (real)(rate * pow(net->scale, floor(n / (net->step > 0 ? net->step : 1))));
    case STEPS: return (real)(rate * steps_factor(net, n));
    case EXP: return (real)(rate * pow(net->gamma, n));
    case POLY:
        return (real)(rate * fmax(pow(1 - n / (net->max_batches > 0 ? net->max_batches : 1), net->power), 0));
    case RANDOM:
        return (real)(rate *
                      pow(dn_uniform(dn_random(net->seed, DN_RANDOM_RATE, (uint64_t)n, 0).v[0]), net->power));
    case SIG: return (real)(rate / (1 + exp(net->gamma * (n - net->step))));
    case SGDR: return (real)sgdr_rate(net, n);
    default: return (real)rate;
    }
}
