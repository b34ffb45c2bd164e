// Writing an index file: bulk inserts into a new file, checked, synced, renamed.
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <utility>

#include "server/base/status.h"
#include "server/store/index_blobs.h"
#include "server/store/index_db.h"

namespace featurescope {
namespace {

constexpr size_t kMaxTokenBytes = 1u << 20;
constexpr size_t kMaxLogitEffects = 1000;

absl::Status SyncPath(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, path);
  const int failed = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  return failed == 0 ? absl::OkStatus() : ErrnoStatus(failed, absl::StrCat(path, ": fsync"));
}

absl::Status SyncAndRename(const std::string& from, const std::string& to) {
  RETURN_IF_ERROR(SyncPath(from, O_RDONLY));
  if (::rename(from.c_str(), to.c_str()) != 0) {
    return ErrnoStatus(errno, absl::StrCat("rename ", from, " to ", to));
  }
  const size_t slash = to.rfind('/');
  return SyncPath(slash == std::string::npos ? "." : to.substr(0, slash + 1), O_DIRECTORY);
}

absl::Status CheckHistogram(const HistogramRow& histogram, size_t shared_edges,
                            const std::string& where) {
  const size_t n_edges = histogram.edges.empty() ? shared_edges : histogram.edges.size();
  if (!histogram.counts.empty() && histogram.counts.size() + 1 != n_edges) {
    return InvalidArgument(where, ": a histogram of ", histogram.counts.size(), " counts has ",
                           n_edges, " edges, expected one more than counts");
  }
  if (histogram.counts.empty() && !histogram.edges.empty()) {
    return InvalidArgument(where, ": a histogram has edges but no counts");
  }
  for (size_t i = 0; i < histogram.edges.size(); ++i) {
    if (!std::isfinite(histogram.edges[i]) ||
        (i > 0 && histogram.edges[i] <= histogram.edges[i - 1])) {
      return InvalidArgument(where, ": histogram edge ", i, " (", histogram.edges[i],
                             ") is not finite and above the one before");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStats(const FeatureRow& row) {
  const std::pair<const char*, double> values[] = {
      {"density", row.density},   {"mean", row.mean},
      {"max", row.max},           {"std", row.std},
      {"skewness", row.skewness}, {"kurtosis", row.kurtosis},
      {"p50", row.p50},           {"p90", row.p90},
      {"p99", row.p99},           {"decoder_norm", row.decoder_norm}};
  for (const auto& [name, value] : values) {
    if (!std::isfinite(value)) {
      return InvalidArgument("feature ", row.feature, ": ", name, " is not finite");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckDetail(const FeatureDetailRow& detail, size_t shared_edges,
                         const std::string& where) {
  RETURN_IF_ERROR(CheckHistogram(detail.histogram, shared_edges, where));
  if (detail.bands.size() > kMaxIndexBands) {
    return InvalidArgument(where, ": ", detail.bands.size(), " bands, at most ", kMaxIndexBands,
                           " are possible");
  }
  for (const BandRow& band : detail.bands) {
    if (!std::isfinite(band.low) || !std::isfinite(band.high) || !std::isfinite(band.share)) {
      return InvalidArgument(where, ": a band's bound or share is not finite");
    }
  }
  for (const auto* effects : {&detail.top_logits, &detail.bottom_logits}) {
    if (effects->size() > kMaxLogitEffects) {
      return InvalidArgument(where, ": ", effects->size(), " logit effects, at most ",
                             kMaxLogitEffects, " are possible");
    }
    for (const LogitEffectRow& effect : *effects) {
      if (!std::isfinite(effect.effect)) {
        return InvalidArgument(where, ": the effect on token ", effect.token, " is not finite");
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckExample(const ExampleRow& example, uint32_t feature, const std::string& where) {
  if (example.feature != feature) {
    return InvalidArgument(where, ": an example of feature ", example.feature);
  }
  if (example.band > kMaxIndexBands) {
    return InvalidArgument(where, ": band ", example.band, " is out of range [0, ", kMaxIndexBands,
                           "]");
  }
  if (example.tokens.size() > kMaxExampleTokens || example.tokens.size() != example.acts.size()) {
    return InvalidArgument(where, ": an example has ", example.tokens.size(), " tokens and ",
                           example.acts.size(), " activations; equal numbers, at most ",
                           kMaxExampleTokens, ", are possible");
  }
  bool finite = std::isfinite(example.activation);
  for (const float act : example.acts) finite = finite && std::isfinite(act);
  return finite ? absl::OkStatus()
                : InvalidArgument(where, ": an example's activation is not finite");
}

void BindOptional(Statement* statement, int index, const std::optional<uint32_t>& value) {
  if (value) {
    statement->Bind(index, int64_t{*value});
  } else {
    statement->BindNull(index);
  }
}

}  // namespace

IndexWriter::IndexWriter(std::string path, std::string temporary)
    : path_(std::move(path)), temporary_(std::move(temporary)) {}

IndexWriter::~IndexWriter() {
  db_.reset();
  if (!finished_) ::unlink(temporary_.c_str());
}

absl::StatusOr<std::unique_ptr<IndexWriter>> IndexWriter::Create(const std::string& path) {
  std::unique_ptr<IndexWriter> writer(new IndexWriter(path, path + ".tmp"));
  // What a killed run left.
  if (::unlink(writer->temporary_.c_str()) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, writer->temporary_);
  }
  ASSIGN_OR_RETURN(writer->db_, Database::Open(writer->temporary_, OpenMode::kBulkWriter));
  RETURN_IF_ERROR(writer->db_->Migrate(kIndexMigrations, kIndexApplicationId));
  RETURN_IF_ERROR(writer->db_->Execute("BEGIN"));
  return writer;
}

absl::Status IndexWriter::AddTokens(absl::Span<const TokenRow> tokens) {
  if (n_features_ != 0) return Internal(path_, ": tokens come before features");
  ASSIGN_OR_RETURN(Statement insert,
                   db_->Prepare("INSERT INTO token(id, bytes, special) VALUES(?, ?, ?)"));
  for (const TokenRow& token : tokens) {
    if (token.id < next_token_) {
      return InvalidArgument(path_, ": token ", token.id, " comes after token ", next_token_ - 1);
    }
    if (token.bytes.size() > kMaxTokenBytes) {
      return InvalidArgument(path_, ": token ", token.id, " has ", token.bytes.size(),
                             " bytes, at most ", kMaxTokenBytes, " are possible");
    }
    next_token_ = int64_t{token.id} + 1;
    insert.Bind(1, int64_t{token.id}).BindBlob(2, token.bytes).Bind(3, int64_t{token.special});
    RETURN_IF_ERROR(insert.Run());
    insert.Reset();
    HashToken(token, &sha_);
  }
  return absl::OkStatus();
}

absl::Status IndexWriter::SetHistogramEdges(absl::Span<const float> edges) {
  if (n_features_ != 0) return Internal(path_, ": shared edges come before features");
  HistogramRow check;
  check.edges.assign(edges.begin(), edges.end());
  if (!edges.empty()) check.counts.resize(edges.size() - 1);
  RETURN_IF_ERROR(CheckHistogram(check, 0, path_));
  edges_ = std::move(check.edges);
  return absl::OkStatus();
}

absl::Status IndexWriter::AddFeature(const FeatureRow& stats, const FeatureDetailRow& detail,
                                     absl::Span<const ExampleRow> examples) {
  if (stats.feature != n_features_ || n_features_ >= kMaxIndexFeatures) {
    return InvalidArgument(path_, ": feature ", stats.feature, " where feature ", n_features_,
                           " was expected, of at most ", kMaxIndexFeatures);
  }
  const std::string where = absl::StrCat(path_, ": feature ", stats.feature);
  RETURN_IF_ERROR(CheckStats(stats));
  RETURN_IF_ERROR(CheckDetail(detail, edges_.size(), where));
  std::vector<const ExampleRow*> sorted;
  sorted.reserve(examples.size());
  for (const ExampleRow& example : examples) {
    RETURN_IF_ERROR(CheckExample(example, stats.feature, where));
    sorted.push_back(&example);
  }
  std::sort(sorted.begin(), sorted.end(), [](const ExampleRow* a, const ExampleRow* b) {
    return std::pair(a->band, a->rank) < std::pair(b->band, b->rank);
  });

  HashFeature(stats, &sha_);
  {
    ASSIGN_OR_RETURN(Statement insert, db_->Prepare("INSERT INTO feature VALUES"
                                                    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
    insert.Bind(1, int64_t{stats.feature}).Bind(2, stats.density);
    insert.Bind(3, static_cast<int64_t>(stats.n_active)).Bind(4, stats.mean).Bind(5, stats.max);
    insert.Bind(6, stats.std).Bind(7, stats.skewness).Bind(8, stats.kurtosis).Bind(9, stats.p50);
    insert.Bind(10, stats.p90).Bind(11, stats.p99).Bind(12, stats.decoder_norm);
    BindOptional(&insert, 13, stats.top_logit_token);
    BindOptional(&insert, 14, stats.top_token);
    RETURN_IF_ERROR(insert.Run());
  }
  {
    const std::string packed = PackDetail(detail);
    HashBlob(packed, &sha_);
    ASSIGN_OR_RETURN(Statement insert, db_->Prepare("INSERT INTO detail VALUES(?, ?)"));
    RETURN_IF_ERROR(insert.Bind(1, int64_t{stats.feature}).BindBlob(2, packed).Run());
  }
  for (size_t begin = 0, end = 0; begin < sorted.size(); begin = end) {
    const uint32_t band = sorted[begin]->band;
    while (end < sorted.size() && sorted[end]->band == band) {
      if (end > begin && sorted[end]->rank == sorted[end - 1]->rank) {
        return InvalidArgument(where, ": two examples of band ", band, " and rank ",
                               sorted[end]->rank);
      }
      ++end;
    }
    if (end - begin > kMaxExamplesPerBand) {
      return InvalidArgument(where, ": ", end - begin, " examples in band ", band, ", at most ",
                             kMaxExamplesPerBand, " are possible");
    }
    const std::string packed =
        PackExamples(absl::MakeConstSpan(sorted).subspan(begin, end - begin));
    HashBlob(packed, &sha_);
    ASSIGN_OR_RETURN(Statement insert, db_->Prepare("INSERT INTO example VALUES(?, ?)"));
    RETURN_IF_ERROR(insert.Bind(1, ExampleKey(stats.feature, band)).BindBlob(2, packed).Run());
  }
  ++n_features_;
  return absl::OkStatus();
}

absl::Status IndexWriter::InsertInfo(const IndexInfoRow& info) {
  HistogramRow shared;
  shared.edges = edges_;
  const std::string edges = PackHistogram(shared);
  HashBlob(edges, &sha_);
  HashInfo(info, &sha_);
  const std::string density = PackHistogram(info.log10_density);
  ASSIGN_OR_RETURN(Statement insert,
                   db_->Prepare("INSERT INTO info VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
                                "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
  insert.BindText(1, info.sae_id).BindText(2, info.corpus_id).BindText(3, info.model_id);
  insert.BindText(4, info.hook_name).Bind(5, static_cast<int64_t>(info.n_tokens));
  insert.Bind(6, static_cast<int64_t>(info.n_contexts)).Bind(7, int64_t{info.d_sae});
  insert.Bind(8, int64_t{info.n_alive}).Bind(9, int64_t{info.n_dead});
  insert.Bind(10, int64_t{info.n_dense}).Bind(11, info.mean_l0).Bind(12, info.explained_variance);
  insert.BindText(13, info.model_hash).BindText(14, info.sae_hash).BindText(15, info.corpus_hash);
  insert.BindText(16, info.dtype).Bind(17, static_cast<int64_t>(info.seed));
  insert.BindText(18, info.created).Bind(19, info.seconds).BindBlob(20, density);
  insert.Bind(21, int64_t{info.top_examples}).Bind(22, int64_t{info.bands});
  insert.Bind(23, int64_t{info.examples_per_band}).Bind(24, int64_t{info.window});
  insert.BindBlob(25, edges).Bind(26, next_token_).BindText(27, sha_.HexDigest());
  return insert.Run();
}

absl::Status IndexWriter::Finish(const IndexInfoRow& info) {
  if (n_features_ != info.d_sae) {
    return InvalidArgument(path_, ": ", n_features_, " features were added, expected ", info.d_sae);
  }
  if (!std::isfinite(info.mean_l0) || !std::isfinite(info.explained_variance) ||
      !std::isfinite(info.seconds)) {
    return InvalidArgument(path_, ": mean_l0, explained_variance or seconds is not finite");
  }
  RETURN_IF_ERROR(CheckHistogram(info.log10_density, 0, path_));
  RETURN_IF_ERROR(InsertInfo(info));
  RETURN_IF_ERROR(db_->Execute("COMMIT"));
  db_.reset();
  RETURN_IF_ERROR(SyncAndRename(temporary_, path_));
  finished_ = true;
  return absl::OkStatus();
}

}  // namespace featurescope
