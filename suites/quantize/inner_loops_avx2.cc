#define LOOPS kAvx2Loops
#include "suites/quantize/inner_loops_impl.h"
