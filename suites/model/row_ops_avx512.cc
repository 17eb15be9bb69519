#define ROW_OPS_TABLE RowOpsAvx512
#include "suites/model/row_ops_impl.h"
