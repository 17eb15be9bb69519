// Perturbations of the surroundings of a run, and how to write one.
//
// A computation may depend on its inputs. It may not depend on what freed memory
// held, or on what else the machine is doing: the two perturbations here change
// only that, and are applied where Options names none. What a computation may
// well depend on (a thread count, a rounding mode) is perturbed only where the
// user asks for it, by a class of his own:
//
//   class FlushToZero : public Perturbation {
//    public:
//     std::string Name() const override { return "flush_to_zero"; }
//     void Apply(int, std::uint64_t) override { saved_ = _mm_getcsr(); _mm_setcsr(saved_ | 0x8040); }
//     void Undo() override { _mm_setcsr(saved_); }
//    private:
//     unsigned saved_ = 0;
//   };
//
// Apply() is called on the thread that makes the run, before each run but run 0,
// and Undo() after it, also where the run throws. All that varies must follow
// from `run` and `seed`, so that a failure can be made again.
#ifndef GTEST_DETERMINISM_PERTURBATIONS_H_
#define GTEST_DETERMINISM_PERTURBATIONS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gtest_determinism/options.h"

namespace gtest_determinism {

// Memory that malloc hands out holds a byte that changes from run to run: freed
// blocks of the small sizes are filled, and under glibc mallopt(M_PERTURB) fills
// the rest. What was returned by value and read before it was written then
// differs between runs. Memory of calloc, of other allocators and of a sanitizer
// is left alone. Undo() restores what MALLOC_PERTURB_ of the environment says.
std::shared_ptr<Perturbation> AllocatorPoison();

// Threads that compete for cores, caches and memory bandwidth while a run goes
// on: from none to `threads` of them, by run. 0: as many as there are cores.
std::shared_ptr<Perturbation> CompetingLoad(int threads = 0);

// The default: both.
std::vector<std::shared_ptr<Perturbation>> DefaultPerturbations();

// A well-mixed word for (seed, run); SplitMix64 of Steele, Lea and Flood (OOPSLA 2014).
std::uint64_t MixSeed(std::uint64_t seed, int run);

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_PERTURBATIONS_H_
