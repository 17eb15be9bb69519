#define ROW_OPS_TABLE RowOpsAvx2
#include "suites/model/row_ops_impl.h"
