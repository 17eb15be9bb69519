#define LOOPS kAvx512Loops
#include "suites/quantize/inner_loops_impl.h"
