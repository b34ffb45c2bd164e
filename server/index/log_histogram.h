// Counts of positive values in bins whose edges are the same for every histogram, so that
// histograms of parts of a corpus add up to that of the whole.
//
//   edge(b) = 2^(-20 + b / 16)      b = 0 ... 640
//
// Values below 2^-20 count in the first bin, values from 2^20 on in the last. Only the bins between
// the lowest and the highest one in use take memory.
#pragma once

#include <cstdint>
#include <vector>

namespace featurescope {

class LogHistogram {
 public:
  static constexpr int kBinsPerOctave = 16;
  static constexpr int kMinExponent = -20;
  static constexpr int kMaxExponent = 20;
  static constexpr int kBins = (kMaxExponent - kMinExponent) * kBinsPerOctave;

  // The bin that holds `value`: edge(bin) <= value < edge(bin + 1), but for the ends.
  // REQUIRES: value > 0 and finite.
  static int BinOf(float value);
  // REQUIRES: 0 <= bin <= kBins.
  static float Edge(int bin);

  LogHistogram() = default;
  // The bins from `first_bin` on. REQUIRES: first_bin >= 0, first_bin + counts.size() <= kBins.
  LogHistogram(int first_bin, std::vector<uint32_t> counts)
      : first_bin_(first_bin), counts_(std::move(counts)) {}

  // REQUIRES: fewer than 2^32 values in any bin.
  void Add(int bin) {
    const int i = bin - first_bin_;
    if (i < 0 || i >= static_cast<int>(counts_.size())) {
      Extend(bin, bin + 1);
      ++counts_[bin - first_bin_];
    } else {
      ++counts_[i];
    }
  }
  void Merge(const LogHistogram& other);

  // counts()[i] belongs to bin first_bin() + i. Empty: no values.
  int first_bin() const { return first_bin_; }
  const std::vector<uint32_t>& counts() const { return counts_; }
  uint64_t total() const;

  // How many values are below `value`, given the largest of them. Exact at edges; inside a bin the
  // values are taken to be spread evenly, so the error is less than the bin's count.
  double CountBelow(double value, double max) const;
  // The value below which a share `q` of the values lies, in [0, max]; exact to one bin, which is
  // 4.4 % wide. 0 without values.
  double Quantile(double q, double max) const;

  // At most `max_bins` bins of equal width in log space that hold all values; neighbouring bins
  // joined, so the counts stay exact. Both vectors empty: no values.
  struct Rebinned {
    std::vector<float> edges;  // counts.size() + 1
    std::vector<uint64_t> counts;
  };
  Rebinned Rebin(int max_bins) const;

  friend bool operator==(const LogHistogram&, const LogHistogram&) = default;

 private:
  // Makes bins [begin, end) part of the range in use.
  void Extend(int begin, int end);

  int first_bin_ = 0;
  std::vector<uint32_t> counts_;
};

}  // namespace featurescope
