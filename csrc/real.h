/* The number type of every array: float in the package, double in the twin that gradient checks use. */
#ifndef DN_REAL_H
#define DN_REAL_H
#ifdef DARKNET_DOUBLE
typedef double real;
#else
typedef float real;
#endif
#endif
