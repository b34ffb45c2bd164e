#include "server/index/log_histogram.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace featurescope {
namespace {

constexpr int kPerOctave = LogHistogram::kBinsPerOctave;
constexpr int kCells = 256;
constexpr int kMantissaBits = 23;
constexpr uint32_t kMantissaMask = (1u << kMantissaBits) - 1;

uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// Bins of one octave by mantissa: a table by its leading 8 bits gives the bin of the cell's lower
// end. Bins are wider than cells, so at most the next edge must be compared.
struct OctaveTable {
  std::array<float, kPerOctave + 1> edges;                // in [1, 2]
  std::array<uint32_t, kPerOctave + 1> mantissa_of_edge;  // the last is past every mantissa
  std::array<uint8_t, kCells> bin_of_cell;

  OctaveTable() {
    for (int j = 0; j <= kPerOctave; ++j) {
      edges[j] = static_cast<float>(std::exp2(static_cast<double>(j) / kPerOctave));
      mantissa_of_edge[j] = BitsOf(edges[j]) & kMantissaMask;
    }
    mantissa_of_edge[kPerOctave] = kMantissaMask + 1;
    int bin = 0;
    for (uint32_t cell = 0; cell < kCells; ++cell) {
      const uint32_t lower = cell << (kMantissaBits - 8);
      while (mantissa_of_edge[bin + 1] <= lower) ++bin;
      bin_of_cell[cell] = static_cast<uint8_t>(bin);
    }
  }
};

const OctaveTable& Table() {
  static const OctaveTable table;
  return table;
}

}  // namespace

int LogHistogram::BinOf(float value) {
  const OctaveTable& table = Table();
  const uint32_t bits = BitsOf(value);
  const int exponent = static_cast<int>(bits >> kMantissaBits) - 127;
  if (exponent < kMinExponent) return 0;
  if (exponent >= kMaxExponent) return kBins - 1;
  const uint32_t mantissa = bits & kMantissaMask;
  int bin = table.bin_of_cell[mantissa >> (kMantissaBits - 8)];
  if (mantissa >= table.mantissa_of_edge[bin + 1]) ++bin;
  return (exponent - kMinExponent) * kPerOctave + bin;
}

float LogHistogram::Edge(int bin) {
  return std::ldexp(Table().edges[bin % kPerOctave], kMinExponent + bin / kPerOctave);
}

void LogHistogram::Extend(int begin, int end) {
  if (counts_.empty()) {
    first_bin_ = begin;
    counts_.assign(end - begin, 0);
    return;
  }
  if (begin < first_bin_) {
    counts_.insert(counts_.begin(), first_bin_ - begin, 0);
    first_bin_ = begin;
  }
  if (end > first_bin_ + static_cast<int>(counts_.size())) counts_.resize(end - first_bin_, 0);
}

void LogHistogram::Merge(const LogHistogram& other) {
  if (other.counts_.empty()) return;
  Extend(other.first_bin_, other.first_bin_ + static_cast<int>(other.counts_.size()));
  const int shift = other.first_bin_ - first_bin_;
  for (size_t i = 0; i < other.counts_.size(); ++i) counts_[shift + i] += other.counts_[i];
}

uint64_t LogHistogram::total() const {
  uint64_t total = 0;
  for (uint32_t count : counts_) total += count;
  return total;
}

double LogHistogram::CountBelow(double value, double max) const {
  double below = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    const int bin = first_bin_ + static_cast<int>(i);
    const double low = bin == 0 ? 0.0 : Edge(bin);
    // The last bin in use ends at the maximum, and the histogram's last may begin far below it.
    const bool last = i + 1 == counts_.size();
    const double high = last ? std::max<double>(max, low) : Edge(bin + 1);
    if (value >= high) {
      below += counts_[i];
    } else {
      if (value > low) below += counts_[i] * (value - low) / (high - low);
      break;
    }
  }
  return below;
}

double LogHistogram::Quantile(double q, double max) const {
  const double target = q * static_cast<double>(total());
  double below = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    if (counts_[i] > 0 && below + counts_[i] >= target) {
      const int bin = first_bin_ + static_cast<int>(i);
      const double share = std::max(0.0, target - below) / counts_[i];
      const double low = bin == 0 ? 0.0 : Edge(bin);
      const double high = bin == kBins - 1 ? max : std::min<double>(Edge(bin + 1), max);
      return std::min(max, low + share * std::max(0.0, high - low));
    }
    below += counts_[i];
  }
  return counts_.empty() ? 0.0 : max;
}

LogHistogram::Rebinned LogHistogram::Rebin(int max_bins) const {
  Rebinned result;
  int begin = 0;
  int end = static_cast<int>(counts_.size());
  while (begin < end && counts_[begin] == 0) ++begin;
  while (end > begin && counts_[end - 1] == 0) --end;
  if (begin == end) return result;
  const int joined = (end - begin + max_bins - 1) / max_bins;
  for (int i = begin; i < end; i += joined) {
    result.edges.push_back(Edge(first_bin_ + i));
    uint64_t count = 0;
    for (int j = i; j < std::min(end, i + joined); ++j) count += counts_[j];
    result.counts.push_back(count);
  }
  // The last group may be cut short by the end of all bins.
  const int last = begin + joined * static_cast<int>(result.counts.size());
  result.edges.push_back(Edge(std::min(kBins, first_bin_ + last)));
  return result;
}

}  // namespace featurescope
