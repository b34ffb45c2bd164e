#include "server/text/corpus_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

constexpr int kMaxDepth = 32;
constexpr size_t kMaxFiles = 1u << 20;
constexpr size_t kMaxSkippedNames = 20;
constexpr size_t kMaxNameBytes = 8192;

absl::StatusOr<struct stat> Stat(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, path);
  return info;
}

// The names in a directory, sorted, without those that begin with a dot.
absl::StatusOr<std::vector<std::string>> VisibleNames(const std::string& directory) {
  std::error_code error;
  std::vector<std::string> names;
  std::filesystem::directory_iterator at(directory, error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    std::string name = at->path().filename().string();
    if (!absl::StartsWith(name, ".")) names.push_back(std::move(name));
    if (names.size() > kMaxFiles) {
      return InvalidArgument(directory, ": holds more than ", kMaxFiles, " files");
    }
  }
  if (error) return ErrnoStatus(error.value(), directory);
  std::sort(names.begin(), names.end());
  return names;
}

class FileSearch {
 public:
  FileSearch(const std::optional<std::vector<std::string>>& roots, DocumentFormat format)
      : roots_(roots), format_(format) {}

  absl::Status Add(const std::string& path) {
    const std::vector<std::string> anywhere = {"/"};
    ASSIGN_OR_RETURN(const std::string canonical, ResolveWithin(roots_.value_or(anywhere), path));
    ASSIGN_OR_RETURN(const struct stat info, Stat(canonical));
    if (!S_ISDIR(info.st_mode)) return AddFile(path, canonical, info);

    links_stay_in_ = roots_.value_or(std::vector<std::string>{canonical});
    seen_.clear();
    const size_t n_before = found_.files.size();
    RETURN_IF_ERROR(AddDirectory(path, canonical, 0));
    if (found_.files.size() > n_before) return absl::OkStatus();
    return InvalidArgument(
        path, ": holds no file named ", kDocumentFileNames,
        found_.skipped.empty() ? "" : "; skipped: ", absl::StrJoin(found_.skipped, ", "));
  }

  CorpusFiles TakeFound() { return std::move(found_); }

 private:
  // `name` as people know the directory, `directory` the same without links.
  absl::Status AddDirectory(const std::string& name, const std::string& directory, int depth) {
    if (depth > kMaxDepth) {
      return InvalidArgument(PrintableUtf8(name), ": directories lie deeper than ", kMaxDepth,
                             " levels");
    }
    ASSIGN_OR_RETURN(const std::vector<std::string> entries, VisibleNames(directory));
    for (const std::string& entry : entries) {
      RETURN_IF_ERROR(AddEntry(JoinPath(name, entry), JoinPath(directory, entry), depth));
    }
    return absl::OkStatus();
  }

  absl::Status AddEntry(const std::string& name, std::string path, int depth) {
    struct stat info;
    if (lstat(path.c_str(), &info) != 0) return ErrnoStatus(errno, PrintableUtf8(name));
    const bool is_link = S_ISLNK(info.st_mode);
    if (is_link) {
      absl::StatusOr<std::string> target = ResolveWithin(links_stay_in_, path);
      if (!target.ok()) return Annotate(target.status(), "a link in a directory");
      path = *std::move(target);
      ASSIGN_OR_RETURN(info, Stat(path));
    }
    if (S_ISDIR(info.st_mode) && !is_link) return AddDirectory(name, path, depth + 1);
    if (!S_ISREG(info.st_mode) || !IsWanted(name)) {
      Skip(name);
      return absl::OkStatus();
    }
    if (!seen_.insert(path).second) return absl::OkStatus();
    return AddFile(name, path, info);
  }

  bool IsWanted(const std::string& name) const {
    if (format_ != DocumentFormat::kByName) return true;
    return FormatOfName(name) != DocumentFormat::kByName &&
           !absl::EndsWithIgnoreCase(name, ".json");
  }

  absl::Status AddFile(const std::string& name, const std::string& path, const struct stat& info) {
    CorpusFile file;
    file.name = PrintableUtf8(name, kMaxNameBytes);
    file.path = path;
    file.bytes = static_cast<uint64_t>(info.st_size);
    file.format = format_ == DocumentFormat::kByName ? FormatOfName(name) : format_;
    if (!S_ISREG(info.st_mode)) return InvalidArgument(file.name, ": not a regular file");
    if (file.format == DocumentFormat::kByName) {
      return InvalidArgument(file.name, ": must be named ", kDocumentFileNames,
                             "; else say which format it has");
    }
    if (found_.files.size() == kMaxFiles) {
      return InvalidArgument("a corpus of more than ", kMaxFiles, " files");
    }
    found_.files.push_back(std::move(file));
    return absl::OkStatus();
  }

  void Skip(const std::string& name) {
    ++found_.n_skipped;
    if (found_.skipped.size() < kMaxSkippedNames) found_.skipped.push_back(PrintableUtf8(name));
  }

  const std::optional<std::vector<std::string>> roots_;
  const DocumentFormat format_;
  std::vector<std::string> links_stay_in_;  // those in the directory that is searched
  absl::flat_hash_set<std::string> seen_;   // paths of the files in it
  CorpusFiles found_;
};

}  // namespace

absl::StatusOr<CorpusFiles> FindCorpusFiles(absl::Span<const std::string> paths,
                                            const std::optional<std::vector<std::string>>& roots,
                                            DocumentFormat format) {
  FileSearch search(roots, format);
  for (const std::string& path : paths) RETURN_IF_ERROR(search.Add(path));
  return search.TakeFound();
}

absl::StatusOr<CompressedFile> OpenCorpusFile(const CorpusFile& file) {
  uint64_t size = 0;
  ASSIGN_OR_RETURN(UniqueFd fd, OpenForReading(file.path, &size));
  // A link put in the way since the search would lead somewhere else.
  const absl::StatusOr<std::string> opened =
      ResolveWithin({"/"}, absl::StrCat("/proc/self/fd/", fd.get()));
  if (!opened.ok() || *opened != file.path) {
    return FailedPrecondition(file.name, ": was moved or replaced while the corpus was read");
  }
  ASSIGN_OR_RETURN(CompressedFile opened_file,
                   CompressedFile::FromFd(std::move(fd), size, file.name));
  const Compression named = CompressionOfName(file.name);
  if (named != Compression::kNone && opened_file.compression() == Compression::kNone) {
    return InvalidArgument(file.name, ": is named like ", CompressionName(named),
                           ", and its content is not; if it is not compressed, rename it");
  }
  return opened_file;
}

}  // namespace featurescope
