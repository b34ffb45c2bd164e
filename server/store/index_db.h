// An index file: everything known of one SAE's features over one corpus, in one SQLite file that is
// written once, never changed, and needs nothing else to be read.
//
// Start with IndexReader. Listing runs on statistics held in memory (about 200 bytes a feature);
// histograms, logit effects and examples are read from the file when asked for.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/base/hash.h"
#include "server/base/mutex.h"
#include "server/store/database.h"

namespace featurescope {

constexpr uint32_t kMaxIndexFeatures = 1u << 22;
constexpr uint32_t kMaxIndexBands = 255;
constexpr uint32_t kMaxExamplesPerBand = 10000;
constexpr uint32_t kMaxExampleTokens = 65536;
constexpr uint32_t kMaxFeaturePageSize = 1000;

// Bin i holds edges[i] <= value < edges[i + 1]; the first also all below, the last all above.
struct HistogramRow {
  std::vector<float> edges;  // counts.size() + 1, ascending; both empty: no histogram
  std::vector<uint64_t> counts;
};

struct IndexInfoRow {
  std::string sae_id;
  std::string corpus_id;
  std::string model_id;
  std::string hook_name;
  uint64_t n_tokens = 0;  // indexed, special ones included
  uint64_t n_contexts = 0;
  uint32_t d_sae = 0;
  uint32_t n_alive = 0;
  uint32_t n_dead = 0;
  uint32_t n_dense = 0;  // fire on more than a tenth of the tokens
  double mean_l0 = 0;
  double explained_variance = 0;
  std::string model_hash;
  std::string sae_hash;
  std::string corpus_hash;
  std::string dtype;  // of the forward pass, e.g. float32
  uint64_t seed = 0;
  std::string created;  // RFC 3339
  double seconds = 0;   // the run took
  HistogramRow log10_density;
  // The parameters it was made with, as they took effect.
  uint32_t top_examples = 0;
  uint32_t bands = 0;
  uint32_t examples_per_band = 0;
  uint32_t window = 0;  // tokens on each side
  // SHA-256 over tokens, statistics, details and examples; not over `created` and `seconds`. Set
  // by IndexWriter.
  std::string content_hash;
};

struct TokenRow {
  uint32_t id = 0;
  std::string bytes;
  bool special = false;
};

// Fields as in featurescope.v1.FeatureStats. All numbers are finite; 0 where a feature never fired.
struct FeatureRow {
  uint32_t feature = 0;
  double density = 0;
  uint64_t n_active = 0;
  double mean = 0;
  double max = 0;
  double std = 0;
  double skewness = 0;
  double kurtosis = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double decoder_norm = 0;
  std::optional<uint32_t> top_logit_token;
  std::optional<uint32_t> top_token;
};

struct LogitEffectRow {
  uint32_t token = 0;
  float effect = 0;
};

// Activation band: low <= activation < high; `share` of the positive activations lie in it.
struct BandRow {
  float low = 0;
  float high = 0;
  double share = 0;
};

struct FeatureDetailRow {
  // Empty edges: those given to IndexWriter::SetHistogramEdges.
  HistogramRow histogram;
  std::vector<LogitEffectRow> top_logits;     // largest first
  std::vector<LogitEffectRow> bottom_logits;  // smallest first
  std::vector<BandRow> bands;                 // bands[i] is band i + 1; the highest first
};

struct ExampleRow {
  uint32_t feature = 0;
  uint32_t band = 0;  // 0: one of the strongest; bands count from 1, the highest
  uint32_t rank = 0;  // from 0, within the band
  uint64_t context = 0;
  uint32_t position = 0;  // in the context
  float activation = 0;
  uint32_t window_start = 0;  // in the context
  std::vector<uint32_t> tokens;
  std::vector<float> acts;  // at each of the tokens; stored sparse
};

// Writes an index beside `path` and renames it into place. Destroyed without Finish(), it leaves
// nothing behind. Not thread-safe.
//
//   errors of all methods  ResourceExhausted  the disk is full; the message names the file
//                          InvalidArgument    a value that is not finite or out of its range
class IndexWriter {
 public:
  static absl::StatusOr<std::unique_ptr<IndexWriter>> Create(const std::string& path);
  ~IndexWriter();
  IndexWriter(const IndexWriter&) = delete;
  IndexWriter& operator=(const IndexWriter&) = delete;

  // The vocabulary, in ascending order of ids; any number of calls, before the first feature. An
  // index of a model without tokenizer has none.
  absl::Status AddTokens(absl::Span<const TokenRow> tokens);
  // Edges shared by all histograms that have none of their own; before the first feature.
  absl::Status SetHistogramEdges(absl::Span<const float> edges);
  // Features 0, 1, ..., d_sae - 1, in this order. Examples in any order; each (band, rank) once.
  absl::Status AddFeature(const FeatureRow& stats, const FeatureDetailRow& detail,
                          absl::Span<const ExampleRow> examples);
  // Checks that all `info.d_sae` features are there, syncs, and renames the file into place.
  // REQUIRES: called at most once, last.
  absl::Status Finish(const IndexInfoRow& info);

 private:
  IndexWriter(std::string path, std::string temporary);
  absl::Status InsertInfo(const IndexInfoRow& info);

  const std::string path_;
  const std::string temporary_;
  std::unique_ptr<Database> db_;
  Sha256 sha_;
  std::vector<float> edges_;
  int64_t next_token_ = 0;
  uint32_t n_features_ = 0;
  bool finished_ = false;
};

enum class FeatureOrder {
  kFeature,
  kDensity,
  kMax,
  kMean,
  kStd,
  kSkewness,
  kKurtosis,
  kDecoderNorm,
};
constexpr int kFeatureOrders = 8;

// Bounds are inclusive; an unset bound does not bound.
struct FeatureFilter {
  std::optional<double> min_density;
  std::optional<double> max_density;
  std::optional<double> min_max;
  std::optional<double> max_max;
  std::optional<double> min_mean;
  std::optional<double> max_mean;
  bool alive_only = false;
  // Bytes that occur in the feature's strongest token or in one of its top logits' tokens.
  std::string token_text;
};

struct FeatureQuery {
  FeatureOrder order = FeatureOrder::kFeature;
  bool descending = false;
  FeatureFilter filter;
  uint32_t page_size = 50;  // 1 to kMaxFeaturePageSize
  std::string page_token;   // of the page before, made with the same order and filter
};

struct FeaturePage {
  std::vector<FeatureRow> features;
  std::string next_page_token;  // empty: that was the last page
  uint64_t total = 0;           // features that pass the filter
};

// An open index. Const and thread-safe.
class IndexReader {
 public:
  // Opens and checks a file written by IndexWriter. It stays readable when another takes its name.
  //
  //   errors  NotFound            no such file
  //           DataLoss            damaged or no index; the message names the file and the command
  //                               that rebuilds it
  //           FailedPrecondition  made by a newer version
  static absl::StatusOr<std::shared_ptr<const IndexReader>> Open(const std::string& path);
  ~IndexReader();

  const IndexInfoRow& info() const { return info_; }
  const std::string& path() const { return path_; }

  // Features in the query's order; ties in ascending order of features, whatever the direction.
  // Pages neither repeat nor miss a feature.
  //   errors  InvalidArgument  page size out of range, a page token that is none of this query
  absl::StatusOr<FeaturePage> ListFeatures(const FeatureQuery& query) const;

  //   errors  OutOfRange  feature >= d_sae; the message has the range
  absl::StatusOr<FeatureRow> GetFeature(uint32_t feature) const;
  absl::StatusOr<FeatureDetailRow> GetFeatureDetail(uint32_t feature) const;
  // At most `max_per_band` of each band from `first_band` to `last_band`, by band and rank.
  // TOP is [0, 0]; all bands [1, kMaxIndexBands].
  absl::StatusOr<std::vector<ExampleRow>> ListExamples(uint32_t feature, uint32_t first_band,
                                                       uint32_t last_band,
                                                       uint32_t max_per_band) const;

  // The nearest feature above (below) that ever fired.  REQUIRES: feature < d_sae.
  std::optional<uint32_t> NextAlive(uint32_t feature) const;
  std::optional<uint32_t> PreviousAlive(uint32_t feature) const;

  // The token's text; of an id that the index does not know, an empty one.
  TokenRow Token(uint32_t id) const;

  // Reads everything and compares it with info().content_hash. DataLoss when they differ.
  absl::Status Verify() const;

 private:
  class Lease;  // of a connection, while one call reads
  explicit IndexReader(std::string path);
  absl::Status Connect();
  absl::Status LoadInfo(Database* db);
  absl::Status LoadTokens(Database* db);
  absl::Status LoadFeatures(Database* db);
  // An error of reading, with the command that rebuilds the file when it is damaged.
  absl::Status Explain(const absl::Status& status) const;
  absl::Status Damaged(absl::string_view what) const;
  absl::Status CheckFeature(uint32_t feature) const;
  absl::StatusOr<std::string> DetailBlob(Database* db, uint32_t feature) const;
  // All features in this order, computed once.
  std::shared_ptr<const std::vector<uint32_t>> Order(FeatureOrder order, bool descending) const;
  // Which features have `text` in one of their tokens.
  absl::StatusOr<std::shared_ptr<const std::vector<bool>>> MatchTokenText(
      const std::string& text) const;
  absl::Status LoadFeatureTokens() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(cache_mutex_);
  // The end of ListFeatures' keyset: where the page after `page_token` begins in `order`.
  absl::StatusOr<size_t> PageBegin(const FeatureQuery& query,
                                   const std::vector<uint32_t>& order) const;

  const std::string path_;
  IndexInfoRow info_;
  std::vector<float> edges_;
  std::vector<FeatureRow> features_;
  // Token texts, one after another; token i is [token_begin_[i], token_begin_[i + 1]).
  std::string token_bytes_;
  std::vector<uint32_t> token_begin_ = {0};
  std::vector<bool> token_special_;

  // All connections are made at once: a later one could see another file of the same name.
  mutable Mutex pool_mutex_;
  mutable CondVar returned_;  // a connection came back to idle_
  mutable std::vector<std::unique_ptr<Database>> idle_ ABSL_GUARDED_BY(pool_mutex_);

  // What listing computes once.
  mutable Mutex cache_mutex_;
  mutable std::map<std::pair<FeatureOrder, bool>, std::shared_ptr<const std::vector<uint32_t>>>
      orders_ ABSL_GUARDED_BY(cache_mutex_);
  // The strongest token and the top logits' tokens of feature f are feature_tokens_
  // [feature_token_begin_[f], feature_token_begin_[f + 1]).
  mutable std::vector<uint32_t> feature_token_begin_ ABSL_GUARDED_BY(cache_mutex_);
  mutable std::vector<uint32_t> feature_tokens_ ABSL_GUARDED_BY(cache_mutex_);
  // The latest texts that were asked for, the newest last.
  mutable std::vector<std::pair<std::string, std::shared_ptr<const std::vector<bool>>>> matches_
      ABSL_GUARDED_BY(cache_mutex_);
};

}  // namespace featurescope
