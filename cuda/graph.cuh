/* What device.cu and graph.cu say to one another: the kernels of a pass, kept until its graph is begun. */
#ifndef DN_GRAPH_CUH
#define DN_GRAPH_CUH
#include "kernels.cuh"

/* The thread's stream, without the question whether something is kept for it. */
cudaStream_t own_stream();
/* The host waits for something: the pass's kernels up to here are a part of it, which is begun. */
void part_graph(const char *why);
void begin_kept(); /* what is kept is begun: memory that it uses is to go */

dn_graphs *new_graphs();
void free_graphs(dn_graphs *graphs);
void begin_graph(dn_graphs *graphs, int pass);
void end_graph();
const char *graph_parted();
dn_graph_info graph_info(const dn_graphs *graphs, int pass);
#endif
