#include "server/index/write_index.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/base/status.h"
#include "server/index/activation_source.h"
#include "server/index/bands.h"

namespace featurescope {
namespace {

constexpr int kHistogramBins = 50;
constexpr double kDenseDensity = 0.1;
constexpr size_t kTokensAtOnce = 4096;

absl::Status WriteTokens(const IndexInputs& inputs, IndexWriter& writer) {
  if (inputs.tokenizer == nullptr) return absl::OkStatus();
  const std::vector<bool> special = SpecialTokens(inputs);
  std::vector<TokenRow> rows;
  for (uint32_t id = 0; id < special.size(); ++id) {
    rows.push_back({id, inputs.tokenizer->TokenBytes(id), special[id]});
    if (rows.size() == kTokensAtOnce || id + 1 == special.size()) {
      RETURN_IF_ERROR(writer.AddTokens(rows));
      rows.clear();
    }
  }
  return absl::OkStatus();
}

// Turns examples into rows with the tokens around them.
class ExampleRows {
 public:
  ExampleRows(const TokenFile& corpus, uint32_t window) : corpus_(corpus), window_(window) {}

  absl::Status Add(uint32_t feature, uint32_t band, uint32_t rank, const Example& example) {
    const uint64_t begin = corpus_.ContextBegin(example.context);
    const uint64_t length = corpus_.ContextLength(example.context);
    ExampleRow row;
    row.feature = feature;
    row.band = band;
    row.rank = rank;
    row.context = example.context;
    row.position = example.position;
    row.activation = example.activation;
    row.window_start = example.position - std::min(example.position, window_);
    const uint64_t end = std::min<uint64_t>(length, uint64_t{example.position} + window_ + 1);
    RETURN_IF_ERROR(corpus_.Tokens(begin + row.window_start, end - row.window_start, &row.tokens));
    row.acts.assign(row.tokens.size(), 0.0f);
    for (const WindowActivation& at : example.window) {
      row.acts[example.position + at.offset - row.window_start] = at.activation;
    }
    rows_.push_back(std::move(row));
    return absl::OkStatus();
  }

  const std::vector<ExampleRow>& rows() const { return rows_; }
  void Clear() { rows_.clear(); }

 private:
  const TokenFile& corpus_;
  const uint32_t window_;
  std::vector<ExampleRow> rows_;
};

absl::Status AddExamples(const FeatureAccumulator& accumulator, uint32_t feature,
                         const std::vector<Band>& bands, ExampleRows& rows) {
  uint32_t rank = 0;
  for (const Example& example : accumulator.top.examples()) {
    RETURN_IF_ERROR(rows.Add(feature, 0, rank++, example));
  }
  for (uint32_t i = 0; i < bands.size(); ++i) {
    rank = 0;
    for (const Example* example : bands[i].examples) {
      RETURN_IF_ERROR(rows.Add(feature, i + 1, rank++, *example));
    }
  }
  return absl::OkStatus();
}

// Adds feature `f` with all that is known of it.
absl::Status WriteFeature(const IndexSpec& spec, const IndexResults& results, uint32_t f,
                          ExampleRows& examples, IndexWriter& writer) {
  const FeatureAccumulators& features = results.state->features;
  const FeatureAccumulator* accumulator = features.feature(f);
  FeatureRow stats = StatisticsRow(f, accumulator, features.n_counted_tokens());
  stats.decoder_norm = results.decoder_norms[f];
  FeatureDetailRow detail;
  if (!results.logit_effects.empty()) {
    detail.top_logits = results.logit_effects[f].top;
    detail.bottom_logits = results.logit_effects[f].bottom;
    if (!detail.top_logits.empty()) stats.top_logit_token = detail.top_logits[0].token;
  }
  examples.Clear();
  if (accumulator != nullptr) {
    LogHistogram::Rebinned histogram = accumulator->histogram.Rebin(kHistogramBins);
    detail.histogram = {std::move(histogram.edges), std::move(histogram.counts)};
    const std::vector<Band> bands = AssembleBands(*accumulator, spec.bands, spec.examples_per_band);
    for (const Band& band : bands) detail.bands.push_back({band.low, band.high, band.share});
    RETURN_IF_ERROR(AddExamples(*accumulator, f, bands, examples));
    const ExampleRow& strongest = examples.rows()[0];
    stats.top_token = strongest.tokens[strongest.position - strongest.window_start];
  }
  return writer.AddFeature(stats, detail, examples.rows());
}

IndexInfoRow InfoRow(const IndexInputs& inputs, const IndexSpec& spec, const IndexingState& state) {
  const FeatureAccumulators& features = state.features;
  IndexInfoRow info;
  info.sae_id = inputs.sae_id;
  info.corpus_id = inputs.corpus_id;
  info.model_id = inputs.model_id;
  info.hook_name = inputs.hook.name();
  info.n_tokens = state.tokens_done;
  info.n_contexts = state.next_context;
  info.d_sae = static_cast<uint32_t>(features.d_sae());
  info.n_alive = static_cast<uint32_t>(features.n_alive());
  info.n_dead = info.d_sae - info.n_alive;
  const auto n_counted = static_cast<double>(features.n_counted_tokens());
  for (int64_t f = 0; f < features.d_sae(); ++f) {
    const FeatureAccumulator* feature = features.feature(f);
    if (feature != nullptr && static_cast<double>(feature->sums.n) > kDenseDensity * n_counted) {
      ++info.n_dense;
    }
  }
  if (n_counted > 0) info.mean_l0 = static_cast<double>(features.n_activations()) / n_counted;
  info.explained_variance = state.reconstruction.ExplainedVariance();
  info.model_hash = inputs.model->hash();
  info.sae_hash = inputs.sae->hash();
  info.corpus_hash = inputs.corpus->hash();
  info.dtype = std::string(DtypeName(inputs.model->dtype()));
  info.seed = spec.seed;
  info.created = absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(), absl::UTCTimeZone());
  info.seconds = state.seconds;
  info.log10_density = DensityHistogram(features);
  info.top_examples = spec.top_examples;
  info.bands = spec.bands;
  info.examples_per_band = spec.examples_per_band;
  info.window = spec.window;
  return info;
}

}  // namespace

std::string DtypeName(torch::ScalarType dtype) {
  switch (dtype) {
    case torch::kFloat32:
      return "float32";
    case torch::kBFloat16:
      return "bfloat16";
    case torch::kFloat16:
      return "float16";
    default:
      return torch::toString(dtype);
  }
}

FeatureRow StatisticsRow(uint32_t feature, const FeatureAccumulator* accumulator,
                         uint64_t n_counted_tokens) {
  FeatureRow row;
  row.feature = feature;
  if (accumulator == nullptr) return row;
  const Moments moments = MomentsOf(accumulator->sums);
  row.n_active = accumulator->sums.n;
  row.density = static_cast<double>(row.n_active) / static_cast<double>(n_counted_tokens);
  row.mean = moments.mean;
  row.std = moments.std;
  row.skewness = moments.skewness;
  row.kurtosis = moments.kurtosis;
  row.max = accumulator->max;
  row.p50 = accumulator->histogram.Quantile(0.50, row.max);
  row.p90 = accumulator->histogram.Quantile(0.90, row.max);
  row.p99 = accumulator->histogram.Quantile(0.99, row.max);
  return row;
}

HistogramRow DensityHistogram(const FeatureAccumulators& features) {
  HistogramRow histogram;
  if (features.n_alive() == 0) return histogram;
  const auto n_counted = static_cast<double>(features.n_counted_tokens());
  const int n_bins = std::max(1, static_cast<int>(std::ceil(10 * std::log10(n_counted))));
  histogram.counts.resize(n_bins);
  for (int i = 0; i <= n_bins; ++i) {
    histogram.edges.push_back(static_cast<float>(i - n_bins) / 10);
  }
  for (int64_t f = 0; f < features.d_sae(); ++f) {
    if (features.feature(f) == nullptr) continue;
    const double density = static_cast<double>(features.feature(f)->sums.n) / n_counted;
    const double bin = std::floor(10 * std::log10(density)) + n_bins;
    ++histogram.counts[static_cast<int>(std::clamp(bin, 0.0, n_bins - 1.0))];
  }
  return histogram;
}

absl::Status WriteIndex(const IndexInputs& inputs, const IndexSpec& spec,
                        const IndexResults& results, const CancelToken& cancel,
                        const std::function<void(double)>& progress, const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<IndexWriter> writer, IndexWriter::Create(path));
  RETURN_IF_ERROR(WriteTokens(inputs, *writer));
  ExampleRows examples(*inputs.corpus, spec.window);
  const auto d_sae = static_cast<uint32_t>(results.state->features.d_sae());
  for (uint32_t f = 0; f < d_sae; ++f) {
    if (f % 64 == 0) {
      RETURN_IF_ERROR(cancel.Check());
      progress(static_cast<double>(f) / d_sae);
    }
    RETURN_IF_ERROR(WriteFeature(spec, results, f, examples, *writer));
  }
  RETURN_IF_ERROR(cancel.Check());
  return writer->Finish(InfoRow(inputs, spec, *results.state));
}

}  // namespace featurescope
