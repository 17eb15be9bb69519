// Our headers between macros that system headers define: complex.h, termios.h,
// sys/sysmacros.h, Windows' rpcndr.h. GoogleTest and the standard library do not
// survive all of these themselves and come first.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <complex>
#include <exception>
#include <functional>
#include <mutex>
#include <ranges>
#include <source_location>
#include <span>
#include <variant>

#define I 1i
#define B0 0
#define small char
#define major(x) x
#define minor(x) x
#define ERROR 0
#define OK 0
#define CHECK(x) x

#include "gtest_determinism/determinism.h"
#include "gtest_determinism/matchers.h"
