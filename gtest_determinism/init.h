// For a main() of one's own; gtest_determinism::main is one ready made.
//
//   int main(int argc, char** argv) {
//     testing::InitGoogleTest(&argc, argv);
//     gtest_determinism::InitDeterminism(&argc, argv);
//     return gtest_determinism::RunAllTests();
//   }
#ifndef GTEST_DETERMINISM_INIT_H_
#define GTEST_DETERMINISM_INIT_H_

namespace gtest_determinism {

// Exit code of a program whose command line or environment cannot be read.
inline constexpr int kExitUsage = 2;

// Takes the --determinism_ flags out of argv. An unknown one, or a value that
// cannot be read, is one line on stderr and the end of the program. With --help
// the flags' help is printed; gtest's own is printed by InitGoogleTest().
void InitDeterminism(int* argc, char** argv);

// RUN_ALL_TESTS(), which is not a success where no test was selected: a filter
// that matches nothing proves nothing. Shards (GTEST_TOTAL_SHARDS above 1) may
// be empty, and --gtest_list_tests and --help run none.
int RunAllTests();

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_INIT_H_
