// Reading an index file: opening, details, examples. Listing is in index_listing.cc.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>

#include "server/base/status.h"
#include "server/store/index_blobs.h"
#include "server/store/index_db.h"
#include "server/store/index_lease.h"

namespace featurescope {
namespace {

constexpr size_t kConnections = 4;
constexpr uint32_t kMaxVocabulary = 1u << 24;

// Which file has the name now.
absl::StatusOr<std::pair<uint64_t, uint64_t>> FileIdentity(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, path);
  return std::pair<uint64_t, uint64_t>(info.st_dev, info.st_ino);
}

// Compares the file's size with the one in its header (bytes 16 and 28): what is cut off would show
// only when it is asked for.
absl::StatusOr<bool> IsWhole(const std::string& path) {
  unsigned char header[32] = {};
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, path);
  const ssize_t n = ::pread(fd, header, sizeof(header), 0);
  const off_t size = ::lseek(fd, 0, SEEK_END);
  ::close(fd);
  if (n != sizeof(header)) return false;
  uint64_t page_size = (uint64_t{header[16]} << 8) | header[17];
  if (page_size == 1) page_size = 65536;
  const uint64_t n_pages = (uint64_t{header[28]} << 24) | (uint64_t{header[29]} << 16) |
                           (uint64_t{header[30]} << 8) | header[31];
  return page_size * n_pages == static_cast<uint64_t>(size);
}

std::optional<uint32_t> OptionalInt(const Statement& row, int column) {
  if (row.IsNull(column)) return std::nullopt;
  return static_cast<uint32_t>(row.Int(column));
}

FeatureRow ReadFeature(const Statement& s) {
  FeatureRow r;
  r.feature = static_cast<uint32_t>(s.Int(0));
  r.density = s.Double(1);
  r.n_active = static_cast<uint64_t>(s.Int(2));
  r.mean = s.Double(3);
  r.max = s.Double(4);
  r.std = s.Double(5);
  r.skewness = s.Double(6);
  r.kurtosis = s.Double(7);
  r.p50 = s.Double(8);
  r.p90 = s.Double(9);
  r.p99 = s.Double(10);
  r.decoder_norm = s.Double(11);
  r.top_logit_token = OptionalInt(s, 12);
  r.top_token = OptionalInt(s, 13);
  return r;
}

bool AllFinite(const FeatureRow& r) {
  for (const double value : {r.density, r.mean, r.max, r.std, r.skewness, r.kurtosis, r.p50, r.p90,
                             r.p99, r.decoder_norm}) {
    if (!std::isfinite(value)) return false;
  }
  return true;
}

}  // namespace

IndexReader::Lease::Lease(const IndexReader* reader) : reader_(reader) {
  MutexLock lock(&reader->pool_mutex_);
  while (reader->idle_.empty()) reader->returned_.Wait(&reader->pool_mutex_);
  database_ = std::move(reader->idle_.back());
  reader->idle_.pop_back();
}

IndexReader::Lease::~Lease() {
  MutexLock lock(&reader_->pool_mutex_);
  reader_->idle_.push_back(std::move(database_));
  reader_->returned_.Signal();
}

IndexReader::IndexReader(std::string path) : path_(std::move(path)) {}
IndexReader::~IndexReader() = default;

absl::StatusOr<std::shared_ptr<const IndexReader>> IndexReader::Open(const std::string& path) {
  std::shared_ptr<IndexReader> reader(new IndexReader(path));
  RETURN_IF_ERROR(reader->Explain(reader->Connect()));
  Lease db(reader.get());
  RETURN_IF_ERROR(reader->Explain(reader->LoadInfo(db.get())));
  RETURN_IF_ERROR(reader->Explain(reader->LoadTokens(db.get())));
  RETURN_IF_ERROR(reader->Explain(reader->LoadFeatures(db.get())));
  return std::shared_ptr<const IndexReader>(reader);
}

absl::Status IndexReader::Connect() {
  constexpr int kTries = 5;
  for (int i = 0; i < kTries; ++i) {
    std::vector<std::unique_ptr<Database>> connections;
    ASSIGN_OR_RETURN(const auto before, FileIdentity(path_));
    ASSIGN_OR_RETURN(const bool whole, IsWhole(path_));
    while (connections.size() < kConnections) {
      ASSIGN_OR_RETURN(connections.emplace_back(), Database::Open(path_, OpenMode::kImmutable));
    }
    ASSIGN_OR_RETURN(const auto after, FileIdentity(path_));
    if (before != after) continue;  // replaced meanwhile
    if (!whole) return Damaged("its size is not the one it was written with");
    MutexLock lock(&pool_mutex_);
    idle_ = std::move(connections);
    return absl::OkStatus();
  }
  return absl::UnavailableError(absl::StrCat(path_, ": the file is being replaced over and over"));
}

absl::Status IndexReader::Damaged(absl::string_view what) const {
  return absl::DataLossError(absl::StrCat(path_, ": damaged: ", what));
}

absl::Status IndexReader::Explain(const absl::Status& status) const {
  if (!absl::IsDataLoss(status)) return status;
  // <sae>@<corpus>.db
  absl::string_view name = path_;
  name.remove_prefix(name.rfind('/') + 1);  // npos + 1 is 0
  const size_t at = name.find('@');
  const size_t dot = name.rfind(".db");
  std::string sae = "SAE";
  std::string corpus = "CORPUS";
  if (at != absl::string_view::npos && dot != absl::string_view::npos && at < dot) {
    sae = std::string(name.substr(0, at));
    corpus = std::string(name.substr(at + 1, dot - at - 1));
  }
  return absl::DataLossError(absl::StrCat(status.message(),
                                          "; rebuild it with `featurescope index --sae ", sae,
                                          " --corpus ", corpus, "`"));
}

absl::Status IndexReader::LoadInfo(Database* db) {
  ASSIGN_OR_RETURN(const int64_t application, db->QueryInt("PRAGMA application_id"));
  ASSIGN_OR_RETURN(const int64_t version, db->QueryInt("PRAGMA user_version"));
  if (application != kIndexApplicationId) return Damaged("it is no index file");
  constexpr int64_t kVersion = std::size(kIndexMigrations);
  if (version > kVersion) {
    return FailedPrecondition(path_, ": made by a newer version of Featurescope (format ", version,
                              ", this one knows up to ", kVersion, ")");
  }
  if (version < kVersion) return Damaged(absl::StrCat("it has the unknown format ", version));

  ASSIGN_OR_RETURN(Statement s, db->Prepare("SELECT * FROM info"));
  ASSIGN_OR_RETURN(const bool row, s.Step());
  if (!row) return Damaged("it holds no description of itself");
  IndexInfoRow& i = info_;
  int column = 0;
  const auto text = [&](std::string* out) { *out = s.Text(column++); };
  const auto integer = [&](auto* out) {
    *out = static_cast<std::remove_pointer_t<decltype(out)>>(s.Int(column++));
  };
  const auto real = [&](double* out) { *out = s.Double(column++); };
  text(&i.sae_id), text(&i.corpus_id), text(&i.model_id), text(&i.hook_name);
  integer(&i.n_tokens), integer(&i.n_contexts), integer(&i.d_sae);
  integer(&i.n_alive), integer(&i.n_dead), integer(&i.n_dense);
  real(&i.mean_l0), real(&i.explained_variance);
  text(&i.model_hash), text(&i.sae_hash), text(&i.corpus_hash), text(&i.dtype);
  integer(&i.seed);
  text(&i.created);
  real(&i.seconds);
  if (!UnpackHistogram(s.Blob(column++), &i.log10_density)) return Damaged("log10_density");
  integer(&i.top_examples), integer(&i.bands), integer(&i.examples_per_band), integer(&i.window);
  HistogramRow shared;
  if (!UnpackHistogram(s.Blob(column++), &shared)) return Damaged("histogram_edges");
  edges_ = std::move(shared.edges);
  uint32_t n_vocabulary = 0;
  integer(&n_vocabulary);
  text(&i.content_hash);
  if (i.d_sae > kMaxIndexFeatures || n_vocabulary > kMaxVocabulary) {
    return Damaged(
        absl::StrCat("d_sae ", i.d_sae, " or vocabulary ", n_vocabulary, " is out of range"));
  }
  token_special_.reserve(n_vocabulary);
  token_begin_.reserve(n_vocabulary + 1);
  return absl::OkStatus();
}

absl::Status IndexReader::LoadTokens(Database* db) {
  ASSIGN_OR_RETURN(Statement select,
                   db->Prepare("SELECT id, bytes, special FROM token ORDER BY id"));
  ASSIGN_OR_RETURN(bool more, select.Step());
  while (more) {
    const int64_t id = select.Int(0);
    if (id < 0 || id >= kMaxVocabulary) return Damaged(absl::StrCat("token ", id));
    // Ids between this and the one before have no text.
    token_begin_.resize(static_cast<size_t>(id) + 1, static_cast<uint32_t>(token_bytes_.size()));
    token_special_.resize(static_cast<size_t>(id) + 1, false);
    const absl::string_view bytes = select.Blob(1);
    if (token_bytes_.size() + bytes.size() > UINT32_MAX) return Damaged("too much token text");
    token_bytes_.append(bytes.data(), bytes.size());
    token_begin_.push_back(static_cast<uint32_t>(token_bytes_.size()));
    token_special_[static_cast<size_t>(id)] = select.Int(2) != 0;
    ASSIGN_OR_RETURN(more, select.Step());
  }
  return absl::OkStatus();
}

absl::Status IndexReader::LoadFeatures(Database* db) {
  ASSIGN_OR_RETURN(Statement select, db->Prepare("SELECT * FROM feature ORDER BY feature"));
  ASSIGN_OR_RETURN(bool more, select.Step());
  while (more) {
    features_.push_back(ReadFeature(select));
    if (features_.back().feature != features_.size() - 1 || !AllFinite(features_.back())) {
      return Damaged(absl::StrCat("statistics of feature ", features_.size() - 1));
    }
    ASSIGN_OR_RETURN(more, select.Step());
  }
  if (features_.size() != info_.d_sae) {
    return Damaged(absl::StrCat("it has ", features_.size(), " of ", info_.d_sae, " features"));
  }
  return absl::OkStatus();
}

absl::Status IndexReader::CheckFeature(uint32_t feature) const {
  if (feature < features_.size()) return absl::OkStatus();
  return OutOfRange("feature ", feature, " is out of range [0, ", features_.size(), ")");
}

absl::StatusOr<FeatureRow> IndexReader::GetFeature(uint32_t feature) const {
  RETURN_IF_ERROR(CheckFeature(feature));
  return features_[feature];
}

absl::StatusOr<std::string> IndexReader::DetailBlob(Database* db, uint32_t feature) const {
  ASSIGN_OR_RETURN(Statement select, db->Prepare("SELECT packed FROM detail WHERE feature=?"));
  ASSIGN_OR_RETURN(const bool found, select.Bind(1, int64_t{feature}).Step());
  if (!found) return Damaged(absl::StrCat("no detail of feature ", feature));
  return select.Text(0);
}

absl::StatusOr<FeatureDetailRow> IndexReader::GetFeatureDetail(uint32_t feature) const {
  RETURN_IF_ERROR(CheckFeature(feature));
  Lease db(this);
  const absl::StatusOr<std::string> packed = DetailBlob(db.get(), feature);
  if (!packed.ok()) return Explain(packed.status());
  FeatureDetailRow detail;
  if (!UnpackDetail(*packed, &detail)) {
    return Explain(Damaged(absl::StrCat("detail of feature ", feature)));
  }
  if (detail.histogram.edges.empty() && !detail.histogram.counts.empty()) {
    detail.histogram.edges = edges_;
  }
  if (!detail.histogram.counts.empty() &&
      detail.histogram.edges.size() != detail.histogram.counts.size() + 1) {
    return Explain(Damaged(absl::StrCat("histogram of feature ", feature)));
  }
  return detail;
}

absl::StatusOr<std::vector<ExampleRow>> IndexReader::ListExamples(uint32_t feature,
                                                                  uint32_t first_band,
                                                                  uint32_t last_band,
                                                                  uint32_t max_per_band) const {
  RETURN_IF_ERROR(CheckFeature(feature));
  std::vector<ExampleRow> examples;
  if (first_band > kMaxIndexBands) return examples;
  last_band = std::min(last_band, kMaxIndexBands);
  Lease db(this);
  const auto read = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(
        Statement select,
        db.get()->Prepare("SELECT id, packed FROM example WHERE id BETWEEN ? AND ? ORDER BY id"));
    select.Bind(1, ExampleKey(feature, first_band)).Bind(2, ExampleKey(feature, last_band));
    ASSIGN_OR_RETURN(bool more, select.Step());
    while (more) {
      const uint32_t band = static_cast<uint32_t>(select.Int(0) & 255);
      if (!UnpackExamples(select.Blob(1), feature, band, max_per_band, &examples)) {
        return Damaged(absl::StrCat("examples of feature ", feature, ", band ", band));
      }
      ASSIGN_OR_RETURN(more, select.Step());
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(Explain(read()));
  return examples;
}

std::optional<uint32_t> IndexReader::NextAlive(uint32_t feature) const {
  for (size_t i = size_t{feature} + 1; i < features_.size(); ++i) {
    if (features_[i].n_active > 0) return static_cast<uint32_t>(i);
  }
  return std::nullopt;
}

std::optional<uint32_t> IndexReader::PreviousAlive(uint32_t feature) const {
  for (size_t i = std::min(size_t{feature}, features_.size()); i-- > 0;) {
    if (features_[i].n_active > 0) return static_cast<uint32_t>(i);
  }
  return std::nullopt;
}

TokenRow IndexReader::Token(uint32_t id) const {
  if (id >= token_special_.size()) return TokenRow{id, "", false};
  const uint32_t begin = token_begin_[id];
  return TokenRow{id, token_bytes_.substr(begin, token_begin_[id + 1] - begin), token_special_[id]};
}

absl::Status IndexReader::Verify() const {
  Sha256 sha;
  Lease db(this);
  const auto read = [&]() -> absl::Status {
    {
      ASSIGN_OR_RETURN(Statement tokens,
                       db.get()->Prepare("SELECT id, bytes, special FROM token ORDER BY id"));
      ASSIGN_OR_RETURN(bool more, tokens.Step());
      while (more) {
        HashToken({static_cast<uint32_t>(tokens.Int(0)), tokens.Text(1), tokens.Int(2) != 0}, &sha);
        ASSIGN_OR_RETURN(more, tokens.Step());
      }
    }
    ASSIGN_OR_RETURN(Statement examples,
                     db.get()->Prepare("SELECT id, packed FROM example ORDER BY id"));
    ASSIGN_OR_RETURN(bool more, examples.Step());
    for (const FeatureRow& row : features_) {
      HashFeature(row, &sha);
      ASSIGN_OR_RETURN(const std::string detail, DetailBlob(db.get(), row.feature));
      HashBlob(detail, &sha);
      while (more && examples.Int(0) < ExampleKey(row.feature + 1, 0)) {
        HashBlob(examples.Blob(1), &sha);
        ASSIGN_OR_RETURN(more, examples.Step());
      }
    }
    return more ? Damaged("examples of features that it does not have") : absl::OkStatus();
  };
  RETURN_IF_ERROR(Explain(read()));
  HistogramRow shared;
  shared.edges = edges_;
  HashBlob(PackHistogram(shared), &sha);
  HashInfo(info_, &sha);
  if (sha.HexDigest() != info_.content_hash) {
    return Explain(Damaged("its content is not what was written"));
  }
  return absl::OkStatus();
}

}  // namespace featurescope
