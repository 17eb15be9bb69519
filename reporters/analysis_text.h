#ifndef REPORTERS_ANALYSIS_TEXT_H_
#define REPORTERS_ANALYSIS_TEXT_H_

#include <iosfwd>
#include <vector>

#include "reporters/analysis.h"
#include "reporters/text.h"

namespace reporters {

// One row a file, then what the files' own numbers disagree in, then the
// comparison of variants, then that of files of the same variant.
void WriteAnalysis(std::ostream& out, const std::vector<ResultFile>& files, const Analysis& analysis,
                   const ConsoleStyle& style = {});

}  // namespace reporters

#endif  // REPORTERS_ANALYSIS_TEXT_H_
