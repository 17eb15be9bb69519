#define LOOPS kBaselineLoops
#include "suites/quantize/inner_loops_impl.h"
