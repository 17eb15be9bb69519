// Needs a variable that nobody defines.
extern int a_variable_that_nobody_defines;
int* needed = &a_variable_that_nobody_defines;
