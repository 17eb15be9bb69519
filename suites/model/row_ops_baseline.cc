#define ROW_OPS_TABLE RowOpsBaseline
#include "suites/model/row_ops_impl.h"
