// Opening the data directory, looking entries up, removing them. Adding is in add_*.cc, loading in
// loaded.cc.
#include "server/catalog/catalog.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/catalog/reservation.h"
#include "server/catalog/staging.h"

namespace featurescope {
namespace {

constexpr const char* kFolders[] = {"models", "saes",        "corpora",     "index",
                                    "jobs",   "checkpoints", "activations", "tensorboard"};
// Files that small_ may hold open: an index takes four, a corpus two.
constexpr uint64_t kMaxOpenFiles = 512;

absl::StatusOr<UniqueFd> LockDirectory(const std::string& data_dir) {
  const std::string path = JoinPath(data_dir, "lock");
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return ErrnoStatus(errno, path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoStatus(errno, absl::StrCat(path, ": flock"));
    char holder[32] = {};
    const ssize_t n = ::pread(fd.get(), holder, sizeof(holder) - 1, 0);
    const absl::string_view pid =
        absl::StripAsciiWhitespace(absl::string_view(holder, n > 0 ? static_cast<size_t>(n) : 0));
    return FailedPrecondition("data directory ", data_dir, " is in use by another server (process ",
                              pid.empty() ? "unknown" : pid, ")");
  }
  const std::string pid = absl::StrCat(::getpid(), "\n");
  if (::ftruncate(fd.get(), 0) != 0 ||
      ::pwrite(fd.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return ErrnoStatus(errno, path);
  }
  return fd;
}

std::vector<std::string> NamesIn(const std::string& dir) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(dir, error), end; !error && it != end;
       it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) LogWarning(dir, ": ", error.message());
  std::sort(names.begin(), names.end());
  return names;
}

// The parts of <sae>@<corpus>.db; false for another name.
bool ParseIndexName(absl::string_view name, IndexEntry* entry) {
  const size_t at = name.find('@');
  if (at == absl::string_view::npos || !absl::EndsWith(name, ".db")) return false;
  entry->sae_id = std::string(name.substr(0, at));
  entry->corpus_id = std::string(name.substr(at + 1, name.size() - at - 4));
  return CheckId(entry->sae_id, "").ok() && CheckId(entry->corpus_id, "").ok();
}

}  // namespace

Catalog::Catalog(std::string data_dir, CatalogOptions options, UniqueFd lock)
    : data_dir_(std::move(data_dir)),
      options_(std::move(options)),
      lock_(std::move(lock)),
      weights_(options_.memory_budget_bytes),
      small_(kMaxOpenFiles) {}

Catalog::~Catalog() = default;

absl::StatusOr<std::unique_ptr<Catalog>> Catalog::Open(const std::string& data_dir,
                                                       const CatalogOptions& options) {
  if (options.allowed_roots.empty()) {
    return InvalidArgument("no allowed roots are given; \"/\" allows every path");
  }
  RETURN_IF_ERROR(EnsureDir(data_dir));
  char* resolved = ::realpath(data_dir.c_str(), nullptr);
  if (resolved == nullptr) return ErrnoStatus(errno, data_dir);
  std::string canonical(resolved);
  ::free(resolved);
  if (::chmod(canonical.c_str(), 0700) != 0) return ErrnoStatus(errno, canonical);
  ASSIGN_OR_RETURN(UniqueFd lock, LockDirectory(canonical));
  std::unique_ptr<Catalog> catalog(new Catalog(std::move(canonical), options, std::move(lock)));
  RETURN_IF_ERROR(catalog->Prepare());
  return catalog;
}

absl::Status Catalog::Prepare() {
  for (const char* folder : kFolders) RETURN_IF_ERROR(EnsureDir(JoinPath(data_dir_, folder)));
  ASSIGN_OR_RETURN(db_, StateDb::Open(JoinPath(data_dir_, "state.db"), options_.state));
  CleanUp();
  return absl::OkStatus();
}

void Catalog::CleanUp() const {
  for (const char* folder : {"models", "saes", "corpora"}) {
    const std::string dir = JoinPath(data_dir_, folder);
    for (const std::string& name : NamesIn(dir)) {
      if (absl::StartsWith(name, kStagingPrefix)) RemoveTree(JoinPath(dir, name));
    }
  }
  const std::string indexes = JoinPath(data_dir_, "index");
  for (const std::string& name : NamesIn(indexes)) {
    if (absl::EndsWith(name, ".tmp")) RemoveTree(JoinPath(indexes, name));
  }
  for (const std::string& name : NamesIn(JoinPath(data_dir_, "jobs"))) {
    const auto job = db_->GetJob(name);
    const bool over = job.ok() ? IsFinal(job->state) : absl::IsNotFound(job.status());
    if (over) EndJobFiles(name);
  }
}

absl::Status Catalog::Explain(const absl::Status& status, absl::string_view kind) const {
  if (!absl::IsNotFound(status)) return status;
  std::vector<std::string> ids;
  const auto collect = [&](const auto& rows) {
    if (!rows.ok()) return;
    for (const auto& row : *rows) ids.push_back(row.id);
  };
  if (kind == "model") collect(db_->ListModels());
  if (kind == "SAE") collect(db_->ListSaes());
  if (kind == "corpus") collect(db_->ListCorpora());
  constexpr size_t kMaxNamed = 20;
  const size_t n = ids.size();
  if (n > kMaxNamed) ids.resize(kMaxNamed);
  const std::string there =
      n == 0 ? "there is none yet"
             : absl::StrCat(n == 1 ? "there is: " : "there are: ", absl::StrJoin(ids, ", "),
                            n > kMaxNamed ? ", ..." : "");
  return NotFound(status.message(), "; ", there);
}

std::string Catalog::EntryDir(absl::string_view folder, absl::string_view id) const {
  return JoinPath(JoinPath(data_dir_, folder), id);
}

absl::StatusOr<std::string> Catalog::ResolveAllowed(const std::string& path) const {
  return ResolveWithin(options_.allowed_roots, path);
}

std::vector<std::string> Catalog::RootsFor(const AddSource& source) const {
  std::vector<std::string> roots = options_.allowed_roots;
  roots.insert(roots.end(), source.more_roots.begin(), source.more_roots.end());
  return roots;
}

// A row's path follows the data directory when that has moved.
absl::StatusOr<ModelRow> Catalog::GetModel(absl::string_view id) const {
  absl::StatusOr<ModelRow> row = db_->GetModel(id);
  if (!row.ok()) return Explain(row.status(), "model");
  row->path = EntryDir("models", id);
  return row;
}

absl::StatusOr<SaeRow> Catalog::GetSae(absl::string_view id) const {
  absl::StatusOr<SaeRow> row = db_->GetSae(id);
  if (!row.ok()) return Explain(row.status(), "SAE");
  row->path = EntryDir("saes", id);
  return row;
}

absl::StatusOr<CorpusRow> Catalog::GetCorpus(absl::string_view id) const {
  absl::StatusOr<CorpusRow> row = db_->GetCorpus(id);
  if (!row.ok()) return Explain(row.status(), "corpus");
  row->path = EntryDir("corpora", id);
  return row;
}

absl::StatusOr<std::vector<ModelRow>> Catalog::ListModels() const {
  ASSIGN_OR_RETURN(std::vector<ModelRow> rows, db_->ListModels());
  for (ModelRow& row : rows) row.path = EntryDir("models", row.id);
  return rows;
}

absl::StatusOr<std::vector<SaeRow>> Catalog::ListSaes() const {
  ASSIGN_OR_RETURN(std::vector<SaeRow> rows, db_->ListSaes());
  for (SaeRow& row : rows) row.path = EntryDir("saes", row.id);
  return rows;
}

absl::StatusOr<std::vector<CorpusRow>> Catalog::ListCorpora() const {
  ASSIGN_OR_RETURN(std::vector<CorpusRow> rows, db_->ListCorpora());
  for (CorpusRow& row : rows) row.path = EntryDir("corpora", row.id);
  return rows;
}

absl::StatusOr<ModelConfig> Catalog::Config(absl::string_view model_id) const {
  ASSIGN_OR_RETURN(const ModelRow row, GetModel(model_id));
  return ReadModelConfig(row.path);
}

absl::Status Catalog::DeleteModel(absl::string_view id) {
  const Reservation reservation(this, absl::StrCat("model:", id));
  RETURN_IF_ERROR(Explain(db_->DeleteModel(id), "model"));
  weights_.Drop(absl::StrCat("model:", id));
  small_.Drop(absl::StrCat("tokenizer:", id));
  RemoveTree(EntryDir("models", id));
  return absl::OkStatus();
}

absl::Status Catalog::DeleteSae(absl::string_view id) {
  const Reservation reservation(this, absl::StrCat("sae:", id));
  ASSIGN_OR_RETURN(const SaeRow row, GetSae(id));
  RETURN_IF_ERROR(Explain(db_->DeleteSae(id), "SAE"));
  RemoveCheckpoints(row);
  weights_.Drop(absl::StrCat("sae:", id));
  RemoveTree(EntryDir("saes", id));
  RemoveIndexes(id, "");
  return absl::OkStatus();
}

absl::Status Catalog::DeleteCorpus(absl::string_view id) {
  const Reservation reservation(this, absl::StrCat("corpus:", id));
  RETURN_IF_ERROR(Explain(db_->DeleteCorpus(id), "corpus"));
  small_.Drop(absl::StrCat("corpus:", id));
  RemoveTree(EntryDir("corpora", id));
  RemoveIndexes("", id);
  return absl::OkStatus();
}

void Catalog::RemoveIndexes(absl::string_view sae_id, absl::string_view corpus_id) const {
  const auto entries = ListIndexes(sae_id);
  if (!entries.ok()) return;
  for (const IndexEntry& entry : *entries) {
    if (corpus_id.empty() || entry.corpus_id == corpus_id) RemoveTree(entry.path);
  }
}

std::string Catalog::IndexPath(absl::string_view sae_id, absl::string_view corpus_id) const {
  return JoinPath(JoinPath(data_dir_, "index"), absl::StrCat(sae_id, "@", corpus_id, ".db"));
}

absl::StatusOr<std::vector<IndexEntry>> Catalog::ListIndexes(absl::string_view sae_id) const {
  std::vector<IndexEntry> entries;
  const std::string dir = JoinPath(data_dir_, "index");
  for (const std::string& name : NamesIn(dir)) {
    IndexEntry entry;
    if (!ParseIndexName(name, &entry) || (!sae_id.empty() && entry.sae_id != sae_id)) continue;
    entry.path = JoinPath(dir, name);
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace featurescope
