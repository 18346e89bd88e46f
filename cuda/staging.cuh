/* Copies ahead of a pass, as dn_device has them. */
#ifndef DN_STAGING_CUH
#define DN_STAGING_CUH
#include "kernels.cuh"

dn_staging *new_staging();
void free_staging(dn_staging *s);
void begin_staged(dn_staging *s, int lane);
void stage(dn_staging *s, int lane, int what, void *to, const void *host, size_t bytes);
void wait_staged(dn_staging *s, int lane);
void end_staged(dn_staging *s, int lane);
#endif
