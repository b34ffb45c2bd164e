#include "server/index/feature_accumulators.h"

#include <algorithm>
#include <cmath>
#include <thread>
#include <utility>

#include "server/base/hash.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

// The contexts of a batch, made easy to look up by row.
struct Rows {
  std::vector<int32_t> context_of;  // in the batch
  uint64_t n_counted = 0;
};

Rows DescribeRows(const ActivationsByFeature& batch) {
  Rows rows;
  rows.context_of.resize(batch.counted.size());
  for (size_t c = 0; c + 1 < batch.context_begin.size(); ++c) {
    for (int32_t row = batch.context_begin[c]; row < batch.context_begin[c + 1]; ++row) {
      rows.context_of[row] = static_cast<int32_t>(c);
      rows.n_counted += batch.counted[row];
    }
  }
  return rows;
}

struct Entry {
  int32_t row;
  float value;
};

// Adds one feature's entries of a batch to its accumulator.
class FeatureBatch {
 public:
  FeatureBatch(const ActivationsByFeature& batch, const Rows& rows,
               const AccumulatorOptions& options)
      : batch_(batch), rows_(rows), options_(options) {}

  // Takes the entries of `feature` that count; nothing is left when all are on special tokens.
  absl::Status Gather(int64_t feature) {
    feature_ = feature;
    seed_ = Mix64(options_.seed ^ Mix64(static_cast<uint64_t>(feature)));
    max_ = 0;
    entries_.clear();
    for (int64_t i = batch_.column_offsets[feature]; i < batch_.column_offsets[feature + 1]; ++i) {
      const int32_t row = batch_.rows[i];
      const float value = batch_.values[i];
      if (!batch_.counted[row] || !(value > 0)) continue;
      if (std::isinf(value)) return NotFinite(row);
      entries_.push_back({row, value});
      max_ = std::max(max_, value);
    }
    return absl::OkStatus();
  }

  size_t n_entries() const { return entries_.size(); }

  void AddTo(FeatureAccumulator& accumulator) const {
    accumulator.max = std::max(accumulator.max, max_);
    for (const Entry& entry : entries_) {
      accumulator.sums.Add(entry.value);
      accumulator.histogram.Add(LogHistogram::BinOf(entry.value));
    }
    AddTop(accumulator.top);
    if (options_.per_stratum > 0) AddSamples(accumulator.samples);
  }

 private:
  int32_t ContextOf(size_t i) const { return rows_.context_of[entries_[i].row]; }

  uint64_t Priority(const Entry& entry) const {
    const int32_t context = rows_.context_of[entry.row];
    const uint64_t position = entry.row - batch_.context_begin[context];
    // Positions take 20 bits (kMaxContextSize).
    return Mix64(seed_ ^ ((batch_.first_context + context) << 20) ^ position);
  }

  void AddTop(TopExamples& top) const {
    for (size_t begin = 0; begin < entries_.size();) {
      size_t strongest = begin;
      size_t end = begin + 1;
      for (; end < entries_.size() && ContextOf(end) == ContextOf(begin); ++end) {
        if (entries_[end].value > entries_[strongest].value) strongest = end;
      }
      if (top.Wants(entries_[strongest].value)) {
        top.Insert(ExampleAt(strongest, Priority(entries_[strongest])));
      }
      begin = end;
    }
  }

  void AddSamples(StratifiedSamples& samples) const {
    samples.CoverRange(max_);
    for (size_t i = 0; i < entries_.size(); ++i) {
      const uint64_t priority = Priority(entries_[i]);
      if (samples.Wants(entries_[i].value, priority)) samples.Insert(ExampleAt(i, priority));
    }
  }

  Example ExampleAt(size_t center, uint64_t priority) const {
    const int32_t context = ContextOf(center);
    const int32_t row = entries_[center].row;
    const auto window = static_cast<int32_t>(options_.window);
    size_t begin = center;
    while (begin > 0 && ContextOf(begin - 1) == context && row - entries_[begin - 1].row <= window)
      --begin;
    size_t end = center + 1;
    while (end < entries_.size() && ContextOf(end) == context && entries_[end].row - row <= window)
      ++end;
    Example example;
    example.activation = entries_[center].value;
    example.position = static_cast<uint32_t>(row - batch_.context_begin[context]);
    example.context = batch_.first_context + context;
    example.priority = priority;
    example.window.reserve(end - begin);
    for (size_t i = begin; i < end; ++i) {
      example.window.push_back({entries_[i].row - row, entries_[i].value});
    }
    return example;
  }

  absl::Status NotFinite(int32_t row) const {
    const int32_t context = rows_.context_of[row];
    return InvalidArgument("feature ", feature_, " has an activation that is not finite, at token ",
                           row - batch_.context_begin[context], " of context ",
                           batch_.first_context + context);
  }

  const ActivationsByFeature& batch_;
  const Rows& rows_;
  const AccumulatorOptions& options_;
  int64_t feature_ = 0;
  uint64_t seed_ = 0;  // of the feature's priorities
  float max_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace

void PowerSums::Merge(const PowerSums& other) {
  if (other.n == 0) return;
  if (n == 0) shift = other.shift;
  // sum (x - a)^k from sums of (x - b)^j, with x - a = (x - b) + d.
  const double d = other.shift - shift;
  const auto m = static_cast<double>(other.n);
  sum1 += other.sum1 + m * d;
  sum2 += other.sum2 + d * (2 * other.sum1 + m * d);
  sum3 += other.sum3 + d * (3 * other.sum2 + d * (3 * other.sum1 + m * d));
  sum4 += other.sum4 + d * (4 * other.sum3 + d * (6 * other.sum2 + d * (4 * other.sum1 + m * d)));
  n += other.n;
}

Moments MomentsOf(const PowerSums& sums) {
  Moments moments;
  if (sums.n == 0) return moments;
  const auto n = static_cast<double>(sums.n);
  const double a = sums.sum1 / n;  // mean - shift
  moments.mean = sums.shift + a;
  const double m2 = sums.sum2 / n - a * a;
  // Less than floats can vary by: rounding.
  if (!(m2 > 1e-18 * moments.mean * moments.mean)) return moments;
  const double m3 = sums.sum3 / n - a * (3 * sums.sum2 / n - 2 * a * a);
  const double m4 = sums.sum4 / n - a * (4 * sums.sum3 / n - a * (6 * sums.sum2 / n - 3 * a * a));
  moments.std = std::sqrt(m2);
  moments.skewness = m3 / (m2 * moments.std);
  moments.kurtosis = m4 / (m2 * m2) - 3;
  return moments;
}

FeatureAccumulators::FeatureAccumulators(int64_t d_sae, const AccumulatorOptions& options)
    : options_(options), features_(d_sae) {}

absl::Status FeatureAccumulators::Add(const ActivationsByFeature& batch, int threads) {
  const Rows rows = DescribeRows(batch);
  struct Part {
    absl::Status status;
    uint64_t n_activations = 0;
  };
  auto add_range = [&](int64_t begin, int64_t end, Part* part) {
    FeatureBatch entries(batch, rows, options_);
    for (int64_t f = begin; f < end; ++f) {
      if (batch.column_offsets[f] == batch.column_offsets[f + 1]) continue;
      part->status = entries.Gather(f);
      if (!part->status.ok()) return;
      if (entries.n_entries() == 0) continue;
      if (features_[f] == nullptr) features_[f] = std::make_unique<FeatureAccumulator>(options_);
      entries.AddTo(*features_[f]);
      part->n_activations += entries.n_entries();
    }
  };
  std::vector<Part> parts(std::max(threads, 1));
  std::vector<std::thread> workers;
  const auto n_parts = static_cast<int64_t>(parts.size());
  for (int64_t t = 1; t < n_parts; ++t) {
    workers.emplace_back(add_range, d_sae() * t / n_parts, d_sae() * (t + 1) / n_parts, &parts[t]);
  }
  add_range(0, d_sae() / n_parts, &parts[0]);
  for (std::thread& worker : workers) worker.join();
  for (const Part& part : parts) {
    RETURN_IF_ERROR(part.status);
    n_activations_ += part.n_activations;
  }
  n_counted_tokens_ += rows.n_counted;
  return absl::OkStatus();
}

absl::Status FeatureAccumulators::Merge(FeatureAccumulators other) {
  if (other.d_sae() != d_sae()) {
    return InvalidArgument("accumulators of ", other.d_sae(), " features cannot be merged into ",
                           d_sae());
  }
  if (!(other.options_ == options_)) {
    return InvalidArgument("accumulators made with other options cannot be merged");
  }
  for (int64_t f = 0; f < d_sae(); ++f) {
    if (other.features_[f] == nullptr) continue;
    if (features_[f] == nullptr) {
      features_[f] = std::move(other.features_[f]);
      continue;
    }
    FeatureAccumulator& into = *features_[f];
    FeatureAccumulator& from = *other.features_[f];
    into.sums.Merge(from.sums);
    into.max = std::max(into.max, from.max);
    into.histogram.Merge(from.histogram);
    into.top.Merge(std::move(from.top));
    into.samples.Merge(std::move(from.samples));
  }
  n_counted_tokens_ += other.n_counted_tokens_;
  n_activations_ += other.n_activations_;
  return absl::OkStatus();
}

int64_t FeatureAccumulators::n_alive() const {
  return std::count_if(features_.begin(), features_.end(),
                       [](const auto& feature) { return feature != nullptr; });
}

namespace {

void WriteExample(CheckpointWriter& writer, const Example& example) {
  writer.Put(example.activation);
  writer.Put(example.position);
  writer.Put(example.context);
  writer.Put(example.priority);
  writer.PutVector(example.window);
}

bool ReadExample(CheckpointReader& reader, Example* example) {
  return reader.Get(&example->activation) && reader.Get(&example->position) &&
         reader.Get(&example->context) && reader.Get(&example->priority) &&
         reader.GetVector(&example->window) && example->activation > 0 &&
         std::isfinite(example->activation);
}

void WriteFeature(CheckpointWriter& writer, const FeatureAccumulator& feature) {
  writer.Put(feature.sums);
  writer.Put(feature.max);
  writer.Put<int32_t>(feature.histogram.first_bin());
  writer.PutVector(feature.histogram.counts());
  writer.Put<uint64_t>(feature.top.examples().size());
  for (const Example& example : feature.top.examples()) WriteExample(writer, example);
  const std::vector<const Example*> samples = feature.samples.examples();
  writer.Put<uint64_t>(samples.size());
  for (const Example* example : samples) WriteExample(writer, *example);
}

bool ReadFeature(CheckpointReader& reader, FeatureAccumulator* feature) {
  int32_t first_bin = 0;
  std::vector<uint32_t> counts;
  if (!reader.Get(&feature->sums) || !reader.Get(&feature->max) || !(feature->max > 0) ||
      !std::isfinite(feature->max) || !reader.Get(&first_bin) || !reader.GetVector(&counts) ||
      first_bin < 0 || counts.size() > static_cast<size_t>(LogHistogram::kBins) ||
      first_bin + static_cast<int>(counts.size()) > LogHistogram::kBins) {
    return false;
  }
  feature->histogram = LogHistogram(first_bin, std::move(counts));
  uint64_t n = 0;
  if (!reader.Get(&n) || n > reader.remaining()) return false;
  for (uint64_t i = 0; i < n; ++i) {
    Example example;
    if (!ReadExample(reader, &example)) return false;
    feature->top.Insert(std::move(example));
  }
  feature->samples.CoverRange(feature->max);
  if (!reader.Get(&n) || n > reader.remaining()) return false;
  for (uint64_t i = 0; i < n; ++i) {
    Example example;
    if (!ReadExample(reader, &example) || example.activation > feature->max) return false;
    feature->samples.Insert(std::move(example));
  }
  return true;
}

}  // namespace

void FeatureAccumulators::Write(CheckpointWriter& writer) const {
  writer.Put<int64_t>(d_sae());
  writer.Put(n_counted_tokens_);
  writer.Put(n_activations_);
  for (const auto& feature : features_) {
    writer.Put<uint8_t>(feature != nullptr);
    if (feature != nullptr) WriteFeature(writer, *feature);
  }
}

bool FeatureAccumulators::Read(CheckpointReader& reader) {
  int64_t d_sae = 0;
  if (!reader.Get(&d_sae) || d_sae != this->d_sae() || !reader.Get(&n_counted_tokens_) ||
      !reader.Get(&n_activations_)) {
    return false;
  }
  for (auto& feature : features_) {
    feature.reset();
    uint8_t alive = 0;
    if (!reader.Get(&alive)) return false;
    if (alive == 0) continue;
    feature = std::make_unique<FeatureAccumulator>(options_);
    if (!ReadFeature(reader, feature.get())) return false;
  }
  return true;
}

uint64_t FeatureAccumulators::memory_bytes() const {
  uint64_t bytes = features_.capacity() * sizeof(features_[0]);
  auto add = [&bytes](const Example& example) {
    bytes += sizeof(Example) + example.window.capacity() * sizeof(WindowActivation);
  };
  for (const auto& feature : features_) {
    if (feature == nullptr) continue;
    bytes += sizeof(FeatureAccumulator) + options_.n_strata * sizeof(std::vector<Example>) +
             feature->histogram.counts().capacity() * sizeof(uint32_t);
    for (const Example& example : feature->top.examples()) add(example);
    for (const Example* example : feature->samples.examples()) add(*example);
  }
  return bytes;
}

uint64_t FeatureAccumulators::MemoryBound(int64_t d_sae, const AccumulatorOptions& options) {
  const uint64_t example =
      sizeof(Example) + (2 * uint64_t{options.window} + 1) * sizeof(WindowActivation);
  const uint64_t examples = options.top_examples + uint64_t{options.per_stratum} * options.n_strata;
  const uint64_t feature = sizeof(std::unique_ptr<FeatureAccumulator>) +
                           sizeof(FeatureAccumulator) +
                           options.n_strata * sizeof(std::vector<Example>) +
                           2 * LogHistogram::kBins * sizeof(uint32_t) + examples * example;
  return static_cast<uint64_t>(d_sae) * feature;
}

}  // namespace featurescope
