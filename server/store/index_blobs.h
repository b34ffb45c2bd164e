// Inside an index file: its schema, and how histograms, logit effects and examples are packed.
//
// Integers are varints (7 bits a byte, low first), floats IEEE 754 little-endian. Decoding trusts
// nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/base/hash.h"
#include "server/store/database.h"
#include "server/store/index_db.h"

namespace featurescope {

constexpr int32_t kIndexApplicationId = 0x46734978;  // "FsIx"

// An index file is written in one go, so a change of the format is a new version, not a step.
constexpr Migration kIndexMigrations[] = {
    {R"sql(
CREATE TABLE info(
  sae_id TEXT NOT NULL, corpus_id TEXT NOT NULL, model_id TEXT NOT NULL, hook_name TEXT NOT NULL,
  n_tokens INTEGER NOT NULL, n_contexts INTEGER NOT NULL, d_sae INTEGER NOT NULL,
  n_alive INTEGER NOT NULL, n_dead INTEGER NOT NULL, n_dense INTEGER NOT NULL,
  mean_l0 REAL NOT NULL, explained_variance REAL NOT NULL, model_hash TEXT NOT NULL,
  sae_hash TEXT NOT NULL, corpus_hash TEXT NOT NULL, dtype TEXT NOT NULL, seed INTEGER NOT NULL,
  created TEXT NOT NULL, seconds REAL NOT NULL, log10_density BLOB NOT NULL,
  top_examples INTEGER NOT NULL, bands INTEGER NOT NULL, examples_per_band INTEGER NOT NULL,
  example_window INTEGER NOT NULL, histogram_edges BLOB NOT NULL, n_vocabulary INTEGER NOT NULL,
  content_hash TEXT NOT NULL
);
CREATE TABLE token(id INTEGER PRIMARY KEY, bytes BLOB NOT NULL, special INTEGER NOT NULL);
CREATE TABLE feature(
  feature INTEGER PRIMARY KEY, density REAL NOT NULL, n_active INTEGER NOT NULL,
  mean REAL NOT NULL, max REAL NOT NULL, std REAL NOT NULL, skewness REAL NOT NULL,
  kurtosis REAL NOT NULL, p50 REAL NOT NULL, p90 REAL NOT NULL, p99 REAL NOT NULL,
  decoder_norm REAL NOT NULL, top_logit_token INTEGER, top_token INTEGER
);
CREATE TABLE detail(feature INTEGER PRIMARY KEY, packed BLOB NOT NULL);
-- All examples of one band of one feature; id = feature * 256 + band.
CREATE TABLE example(id INTEGER PRIMARY KEY, packed BLOB NOT NULL);
)sql"},
};

constexpr int64_t ExampleKey(uint32_t feature, uint32_t band) {
  return int64_t{feature} * 256 + band;
}

class BlobWriter {
 public:
  void Varint(uint64_t value);
  void Float(float value);
  void Double(double value);
  void Bytes(absl::string_view bytes);  // with their length
  std::string Take() { return std::move(out_); }

 private:
  std::string out_;
};

// After a read beyond the end, or a value above its limit, ok() is false and all reads give 0.
class BlobReader {
 public:
  explicit BlobReader(absl::string_view bytes) : rest_(bytes) {}
  uint64_t Varint(uint64_t limit);
  float Float();
  double Double();
  bool ok() const { return ok_; }
  // Everything read, and nothing wrong.
  bool done() const { return ok_ && rest_.empty(); }

 private:
  absl::string_view rest_;
  bool ok_ = true;
};

std::string PackHistogram(const HistogramRow& histogram);
bool UnpackHistogram(absl::string_view packed, HistogramRow* histogram);
std::string PackDetail(const FeatureDetailRow& detail);
bool UnpackDetail(absl::string_view packed, FeatureDetailRow* detail);
// Appends the tokens of a packed detail's top logits only.
bool UnpackTopLogitTokens(absl::string_view packed, std::vector<uint32_t>* tokens);
// REQUIRES: all of one feature and band, in ascending order of ranks; tokens.size() == acts.size().
std::string PackExamples(absl::Span<const ExampleRow* const> examples);
// Appends at most `max` examples.
bool UnpackExamples(absl::string_view packed, uint32_t feature, uint32_t band, uint32_t max,
                    std::vector<ExampleRow>* examples);

// What the content hash takes in, in this order: every token; for each feature its statistics,
// detail and bands' examples; the shared edges; the info.
void HashToken(const TokenRow& token, Sha256* sha);
void HashFeature(const FeatureRow& row, Sha256* sha);
void HashBlob(absl::string_view packed, Sha256* sha);
// All but created, seconds and content_hash.
void HashInfo(const IndexInfoRow& info, Sha256* sha);

}  // namespace featurescope
