#include "suites/benchmarks/comparison_table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>

namespace quant_suites {
namespace {

// Three significant digits at least.
std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, value < 9.995 ? "%.2f" : value < 99.95 ? "%.1f" : "%.0f", value);
  return text;
}
std::string Ratio(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

bool HasFloors(const ComparisonTable& table) {
  return std::any_of(table.rows.begin(), table.rows.end(), [](const ComparisonRow& row) { return row.floor_us > 0; });
}

const ComparisonCell* FindAny(const ComparisonRow& row, const std::string& provider) {
  for (const ComparisonCell& cell : row.cells) {
    if (cell.provider == provider) return &cell;
  }
  return nullptr;
}

std::string TimeText(const ComparisonRow& row, double us) { return Number(row.milliseconds ? us * 1e-3 : us); }
const char* UnitOf(const ComparisonRow& row) { return row.milliseconds ? "ms" : "us"; }

std::string FloorText(const ComparisonRow& row) { return row.floor_us > 0 ? TimeText(row, row.floor_us) : "-"; }

std::string SizeText(const ComparisonRow& row) {
  return row.k > 0 ? row.name + " " + std::to_string(row.k) + "x" + std::to_string(row.n) : row.name;
}

const ComparisonCell* Quickest(const ComparisonRow& row) {
  const ComparisonCell* best = nullptr;
  for (const ComparisonCell& cell : row.cells) {
    if (cell.us.empty() || cell.wrong() || cell.provider == "cublas_fp16") continue;
    if (best == nullptr || cell.median() < best->median()) best = &cell;
  }
  return best;
}

std::vector<std::string> Errors(const ComparisonTable& table) {
  std::vector<std::string> lines;
  for (const ComparisonRow& row : table.rows) {
    for (const ComparisonCell& cell : row.cells) {
      if (cell.error.empty()) continue;
      lines.push_back(cell.provider + ", " + SizeText(row) + ", M = " + std::to_string(row.rows) + ": " + cell.error);
    }
  }
  return lines;
}

// "marlin 2.9e-04, awq 3.0e-04": the largest of each provider; "" where nothing was compared.
std::string DeviationsText(const ComparisonTable& table) {
  std::string text;
  for (const std::string& provider : table.Providers()) {
    double largest = -1;
    for (const ComparisonRow& row : table.rows) {
      if (const ComparisonCell* const cell = FindAny(row, provider); cell != nullptr && !cell->us.empty()) {
        largest = std::isnan(cell->deviation) ? cell->deviation : std::max(largest, cell->deviation);
      }
    }
    if (largest < 0) continue;
    char number[32];
    std::snprintf(number, sizeof number, " %.1e", largest);
    text += (text.empty() ? "" : ", ") + provider + number;
  }
  return text;
}

// "marlin 3, marlin_invariant 1": patterns of the first row over the sizes of a
// layer, of the layer that has most; "" where no layer has two sizes.
std::string FirstRowsText(const ComparisonTable& table) {
  std::string text;
  for (const std::string& provider : table.Providers()) {
    std::map<std::string, std::set<std::string>> seen;  // by layer
    std::map<std::string, int> sizes;
    for (const ComparisonRow& row : table.rows) {
      const ComparisonCell* const cell = FindAny(row, provider);
      if (cell == nullptr || cell->first_row.empty()) continue;
      seen[row.name].insert(cell->first_row);
      ++sizes[row.name];
    }
    std::size_t most = 0;
    for (const auto& [name, patterns] : seen) {
      if (sizes[name] > 1) most = std::max(most, patterns.size());
    }
    if (most > 0) text += (text.empty() ? "" : ", ") + provider + " " + std::to_string(most);
  }
  return text;
}

std::string CeilingsText(const ComparisonTable& table) {
  if (!(table.ceilings.bytes_per_second > 0)) return "medians of " + std::to_string(table.rounds) + " repetitions";
  char text[160];
  std::snprintf(text, sizeof text,
                "read %.0f GB/s, matmul %.0f TFLOP/s, an empty kernel %.1f us, medians of %d interleaved rounds",
                table.ceilings.bytes_per_second * 1e-9, table.ceilings.flops_per_second * 1e-12,
                table.ceilings.empty_kernel_us, table.rounds);
  return (table.device.empty() ? "" : table.device + ", ") + text;
}

}  // namespace

const ComparisonCell* ComparisonRow::Find(const std::string& provider) const {
  const ComparisonCell* const cell = FindAny(*this, provider);
  return cell == nullptr || cell->us.empty() ? nullptr : cell;
}

std::vector<std::string> ComparisonTable::Providers() const {
  std::vector<std::string> providers;
  for (const ComparisonRow& row : rows) {
    for (const ComparisonCell& cell : row.cells) {
      if (std::find(providers.begin(), providers.end(), cell.provider) == providers.end()) {
        providers.push_back(cell.provider);
      }
    }
  }
  return providers;
}

std::string CellText(const ComparisonRow& row, const std::string& provider) {
  const ComparisonCell* const cell = FindAny(row, provider);
  if (cell == nullptr) return "-";
  if (!cell->error.empty() || cell->us.empty()) return "error";
  std::string text = TimeText(row, cell->median());
  if (row.floor_us > 0) text += " (" + std::to_string(std::lround(100 * row.floor_us / cell->median())) + ")";
  if (cell->patterns > 1) text += " #" + std::to_string(cell->patterns);
  return (cell->wrong() ? "WRONG " : "") + text;
}

void WriteRowLine(std::ostream& out, const ComparisonRow& row) {
  out << SizeText(row) << ", M = " << row.rows << ", floor " << FloorText(row) << " " << UnitOf(row) << ":";
  const char* separator = " ";
  for (const ComparisonCell& cell : row.cells) {
    out << separator << cell.provider << " " << CellText(row, cell.provider);
    separator = ", ";
  }
  out << std::endl;
}

void WriteConsoleTable(std::ostream& out, const ComparisonTable& table) {
  const std::vector<std::string> providers = table.Providers();
  const bool phases = !table.rows.empty() && table.rows[0].milliseconds;
  std::vector<std::vector<std::string>> lines = {{phases ? "phase" : "layer", phases ? "positions" : "M", "floor"}};
  lines[0].insert(lines[0].end(), providers.begin(), providers.end());
  for (const ComparisonRow& row : table.rows) {
    std::vector<std::string> line = {SizeText(row), std::to_string(row.rows), FloorText(row)};
    for (const std::string& provider : providers) line.push_back(CellText(row, provider));
    lines.push_back(std::move(line));
  }
  std::vector<std::size_t> widths(lines[0].size());
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  out << (phases ? "ms" : "us") << (HasFloors(table) ? " (share of the floor in %)" : "")
      << " #bit patterns, where more than one; " << CeilingsText(table) << "\n";
  for (const auto& line : lines) {
    out << line[0] << std::string(widths[0] - line[0].size(), ' ');
    for (std::size_t i = 1; i < line.size(); ++i)
      out << "  " << std::string(widths[i] - line[i].size(), ' ') << line[i];
    out << "\n";
  }
  if (const std::string text = DeviationsText(table); !text.empty()) out << "largest deviation: " << text << "\n";
  if (const std::string text = FirstRowsText(table); !text.empty()) {
    out << "bit patterns of the first row over all M: " << text << "\n";
  }
  for (const std::string& error : Errors(table)) out << "error: " << error << "\n";
}

void WriteMarkdownTable(std::ostream& out, const ComparisonTable& table) {
  const std::vector<std::string> providers = table.Providers();
  const bool phases = !table.rows.empty() && table.rows[0].milliseconds;
  int runs = 0;
  for (const ComparisonRow& row : table.rows) {
    for (const ComparisonCell& cell : row.cells) runs = std::max(runs, cell.runs);
  }
  out << CeilingsText(table) << ". " << (phases ? "Milliseconds" : "Microseconds")
      << (HasFloors(table) ? ", in brackets the share of the floor in percent" : "");
  if (runs > 0) out << "; `#n`: n bit patterns in " << runs << " runs on the same input, elsewhere one";
  out << ". Bold: the quickest INT4 kernel.\n\n"
      << (phases ? "| phase | positions | floor |" : "| layer | M | floor |");
  for (const std::string& provider : providers) out << " " << provider << " |";
  out << "\n|---|---|---|";
  for (std::size_t i = 0; i < providers.size(); ++i) out << "---|";
  out << "\n";
  for (const ComparisonRow& row : table.rows) {
    out << "| " << SizeText(row) << " | " << row.rows << " | " << FloorText(row) << " |";
    const ComparisonCell* const best = Quickest(row);
    for (const std::string& provider : providers) {
      const char* const mark = best != nullptr && best->provider == provider ? "**" : "";
      out << " " << mark << CellText(row, provider) << mark << " |";
    }
    out << "\n";
  }
  if (const std::string text = DeviationsText(table); !text.empty()) {
    out << "\nLargest deviation from exact arithmetic, relative: " << text << ".\n";
  }
  if (const std::string text = FirstRowsText(table); !text.empty()) {
    out << "\nBit patterns of the first row over all M, same x: " << text << ".\n";
  }
  const std::vector<std::string> errors = Errors(table);
  if (!errors.empty()) out << "\n";
  for (const std::string& error : errors) out << "- error: " << error << "\n";
}

void WriteJsonTable(std::ostream& out, const ComparisonTable& table) {
  using Json = nlohmann::ordered_json;
  Json rows = Json::array();
  for (const ComparisonRow& row : table.rows) {
    Json cells = Json::array();
    for (const ComparisonCell& cell : row.cells) {
      const bool timed = !cell.us.empty();
      cells.push_back({{"provider", cell.provider},
                       {"path", cell.path},
                       {"median_us", timed ? Json(cell.median()) : Json(nullptr)},
                       {"us", cell.us},
                       {"floor_share", timed ? Json(row.floor_us / cell.median()) : Json(nullptr)},
                       {"runs", cell.runs},
                       {"patterns", cell.patterns},
                       {"deviation", cell.deviation >= 0 ? Json(cell.deviation) : Json(nullptr)},
                       {"first_row", cell.first_row},
                       {"error", cell.error.empty() ? Json(nullptr) : Json(cell.error)}});
    }
    rows.push_back({{"name", row.name},
                    {"k", row.k},
                    {"n", row.n},
                    {"rows", row.rows},
                    {"bytes", row.bytes},
                    {"flops", row.flops},
                    {"floor_us", row.floor_us},
                    {"cells", cells}});
  }
  const Json json = {{"device", table.device},
                     {"ceilings",
                      {{"bytes_per_second", table.ceilings.bytes_per_second},
                       {"flops_per_second", table.ceilings.flops_per_second},
                       {"empty_kernel_us", table.ceilings.empty_kernel_us}}},
                     {"rounds", table.rounds},
                     {"rows", rows}};
  out << json.dump(1, ' ', false, Json::error_handler_t::replace) << "\n";
}

void WriteRatioTable(std::ostream& out, const ComparisonTable& table, const std::string& provider,
                     const std::string& base) {
  std::vector<std::string> names;
  std::vector<std::int64_t> counts;
  bool any = false;
  for (const ComparisonRow& row : table.rows) {
    if (std::find(names.begin(), names.end(), row.name) == names.end()) names.push_back(row.name);
    if (std::find(counts.begin(), counts.end(), row.rows) == counts.end()) counts.push_back(row.rows);
    any = any || (row.Find(provider) != nullptr && row.Find(base) != nullptr);
  }
  if (!any) return;
  std::sort(counts.begin(), counts.end());
  out << "| " << provider << " / " << base << ", M |";
  for (const std::string& name : names) out << " " << name << " |";
  out << "\n|---|";
  for (std::size_t i = 0; i < names.size(); ++i) out << "---|";
  out << "\n";
  for (const std::int64_t count : counts) {
    out << "| " << count << " |";
    for (const std::string& name : names) {
      std::string text = "-";
      for (const ComparisonRow& row : table.rows) {
        if (row.name != name || row.rows != count) continue;
        const ComparisonCell *const a = row.Find(provider), *const b = row.Find(base);
        if (a != nullptr && b != nullptr) text = Ratio(a->median() / b->median());
      }
      out << " " << text << " |";
    }
    out << "\n";
  }
}

std::vector<std::string> Shortfalls(const ComparisonTable& table) {
  std::vector<std::string> lines;
  for (const ComparisonRow& row : table.rows) {
    for (const ComparisonCell& cell : row.cells) {
      if (cell.wrong()) {
        lines.push_back(cell.provider + ", " + SizeText(row) + ", M = " + std::to_string(row.rows) +
                        ": the result is wrong");
      }
    }
    const ComparisonCell* const ours = row.Find("marlin");
    if (ours == nullptr) continue;
    const auto say = [&](const ComparisonCell& cell, double over, const std::string& what) {
      lines.push_back(cell.provider + ", " + SizeText(row) + ", M = " + std::to_string(row.rows) + ": " +
                      Number(cell.median()) + " us, " + Ratio(over) + " times " + what);
    };
    const auto limit = [&](const ComparisonCell& cell, double base_us, double most, const std::string& what) {
      if (cell.median() > most * base_us) {
        say(cell, cell.median() / base_us, what + (most > 1 ? " (goal " + Ratio(most) + ")" : ""));
      }
    };
    for (const ComparisonCell& other : row.cells) {
      const bool foreign = other.provider.starts_with("vllm_") || other.provider == "tinygemm" ||
                           (other.provider == "cublas_fp16" && row.rows < 64);
      if (foreign && !other.us.empty() && !other.wrong()) limit(*ours, other.median(), 1, other.provider);
    }
    if (row.rows <= 16) limit(*ours, row.floor_us, 1.5, "the floor");
    if (const ComparisonCell* const half = row.Find("cublas_fp16"); half != nullptr && row.rows >= 512) {
      limit(*ours, half->median(), 1.1, "cublas_fp16");
    }
    for (const char* const twin : {"awq", "gptq_ordered"}) {
      if (const ComparisonCell* const cell = row.Find(twin)) limit(*cell, ours->median(), 1.1, "marlin");
    }
  }
  return lines;
}

}  // namespace quant_suites
