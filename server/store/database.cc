#include "server/store/database.h"

#include <sqlite3.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr int kBusyTimeoutMs = 5000;

// `path` as a file: URI; everything that could be syntax is escaped.
std::string FileUri(absl::string_view path, absl::string_view query) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string uri = "file:";
  for (const char c : path) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '/' || c == '-' || c == '_' ||
        c == '.') {
      uri.push_back(c);
    } else {
      const auto byte = static_cast<unsigned char>(c);
      uri.push_back('%');
      uri.push_back(kHex[byte >> 4]);
      uri.push_back(kHex[byte & 15]);
    }
  }
  return absl::StrCat(uri, query);
}

absl::Status ErrorStatus(int code, int system_errno, const std::string& text) {
  switch (code & 0xff) {
    case SQLITE_FULL:
      return ResourceExhausted(text, ": no room on the disk");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(text);
    case SQLITE_CONSTRAINT:
      return AlreadyExists(text);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return absl::PermissionDeniedError(text);
    case SQLITE_NOMEM:
    case SQLITE_TOOBIG:
      return ResourceExhausted(text);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::UnavailableError(text);
    case SQLITE_CANTOPEN:
      return system_errno != 0 ? ErrnoStatus(system_errno, text) : absl::UnavailableError(text);
    case SQLITE_IOERR:
      // The errno may be that of a later call; a write fails for want of room or for a bad disk.
      if (system_errno == ENOSPC || system_errno == EDQUOT || system_errno == EFBIG ||
          (code == SQLITE_IOERR_WRITE && system_errno != EIO)) {
        return ResourceExhausted(text, ": no room on the disk, or a size limit is reached");
      }
      // A file that ends before its pages do.
      if (code == SQLITE_IOERR_SHORT_READ) return absl::DataLossError(text);
      return absl::UnavailableError(text);
    default:
      return Internal(text);
  }
}

const char* Pragmas(OpenMode mode) {
  switch (mode) {
    case OpenMode::kWriter:
      return "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
             "PRAGMA wal_autocheckpoint=1000; PRAGMA journal_size_limit=16777216;"
             "PRAGMA temp_store=MEMORY;";
    case OpenMode::kReader:
      return "PRAGMA query_only=ON; PRAGMA wal_autocheckpoint=0; PRAGMA temp_store=MEMORY;";
    case OpenMode::kBulkWriter:
      return "PRAGMA page_size=8192; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
             "PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=-65536; PRAGMA temp_store=MEMORY;";
    case OpenMode::kImmutable:
      return "PRAGMA query_only=ON; PRAGMA cache_size=-4096; PRAGMA temp_store=MEMORY;";
  }
  return "";
}

}  // namespace

Statement::Statement(Statement&& other) noexcept
    : database_(other.database_), statement_(other.statement_), bind_error_(other.bind_error_) {
  other.statement_ = nullptr;
}

Statement::~Statement() {
  if (statement_ != nullptr) Reset();
}

Statement& Statement::Note(int code) {
  if (code != SQLITE_OK && bind_error_ == SQLITE_OK) bind_error_ = code;
  return *this;
}

Statement& Statement::Bind(int index, int64_t value) {
  return Note(sqlite3_bind_int64(statement_, index, value));
}

Statement& Statement::Bind(int index, double value) {
  return Note(sqlite3_bind_double(statement_, index, value));
}

Statement& Statement::BindText(int index, absl::string_view value) {
  return Note(sqlite3_bind_text64(statement_, index, value.data() == nullptr ? "" : value.data(),
                                  value.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
}

Statement& Statement::BindBlob(int index, absl::string_view value) {
  return Note(sqlite3_bind_blob64(statement_, index, value.data() == nullptr ? "" : value.data(),
                                  value.size(), SQLITE_STATIC));
}

Statement& Statement::BindNull(int index) { return Note(sqlite3_bind_null(statement_, index)); }

absl::StatusOr<bool> Statement::Step() {
  if (bind_error_ != SQLITE_OK) return database_->Error(bind_error_, sqlite3_sql(statement_));
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return database_->Error(code, sqlite3_sql(statement_));
}

absl::Status Statement::Run() {
  ASSIGN_OR_RETURN(const bool row, Step());
  if (row) return Internal(database_->path(), ": ", sqlite3_sql(statement_), " returned a row");
  return absl::OkStatus();
}

void Statement::Reset() {
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
  bind_error_ = SQLITE_OK;
}

int64_t Statement::Int(int column) const { return sqlite3_column_int64(statement_, column); }
double Statement::Double(int column) const { return sqlite3_column_double(statement_, column); }
std::string Statement::Text(int column) const { return std::string(Blob(column)); }
bool Statement::IsNull(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

absl::string_view Statement::Blob(int column) const {
  const void* bytes = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  if (bytes == nullptr || size <= 0) return absl::string_view();
  return absl::string_view(static_cast<const char*>(bytes), static_cast<size_t>(size));
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const std::string& path, OpenMode mode) {
  struct stat info;
  const bool exists = ::stat(path.c_str(), &info) == 0;
  const bool reads_only = mode == OpenMode::kReader || mode == OpenMode::kImmutable;
  if (!exists && reads_only) return ErrnoStatus(errno, path);
  if (exists && !S_ISREG(info.st_mode)) return InvalidArgument(path, ": no regular file");
  if (exists && mode == OpenMode::kBulkWriter) return AlreadyExists(path, ": the file exists");

  int flags = SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  flags |= reads_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  sqlite3* raw = nullptr;
  const int code =
      sqlite3_open_v2(FileUri(path, mode == OpenMode::kImmutable ? "?immutable=1" : "").c_str(),
                      &raw, flags, nullptr);
  std::unique_ptr<Database> database(new Database(path, raw));
  if (code != SQLITE_OK) return database->Error(code, "open");

  sqlite3_busy_timeout(raw, kBusyTimeoutMs);
  // A damaged or hostile file must not call functions or overrun cells.
  sqlite3_db_config(raw, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  if (mode == OpenMode::kReader) {
    sqlite3_db_config(raw, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  }
  RETURN_IF_ERROR(database->Execute("PRAGMA cell_size_check=ON; PRAGMA mmap_size=0;"));
  RETURN_IF_ERROR(database->Execute(Pragmas(mode)));
  return database;
}

Database::~Database() {
  for (const auto& entry : statements_) sqlite3_finalize(entry.second);
  sqlite3_close_v2(db_);
}

absl::Status Database::Error(int code, absl::string_view doing) const {
  const int system_errno = db_ == nullptr ? 0 : sqlite3_system_errno(db_);
  const char* message = db_ == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(db_);
  constexpr size_t kMaxSql = 160;
  return ErrorStatus(code, system_errno,
                     absl::StrCat(path_, ": ", message, " (", sqlite3_errstr(code),
                                  ", while: ", doing.substr(0, kMaxSql), ")"));
}

absl::StatusOr<Statement> Database::Prepare(absl::string_view sql) {
  sqlite3_stmt*& statement = statements_[sql];
  if (statement == nullptr) {
    const int code = sqlite3_prepare_v3(db_, sql.data(), static_cast<int>(sql.size()),
                                        SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
    if (code != SQLITE_OK) {
      const absl::Status status = Error(code, sql);
      statements_.erase(sql);
      return status;
    }
  }
  return Statement(this, statement);
}

absl::Status Database::Execute(const std::string& sql) {
  const int code = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, sql);
}

absl::StatusOr<int64_t> Database::QueryInt(absl::string_view sql) {
  ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  ASSIGN_OR_RETURN(const bool row, statement.Step());
  if (!row) return NotFound(path_, ": no row (", sql, ")");
  return statement.Int(0);
}

absl::Status Database::Migrate(absl::Span<const Migration> steps, int32_t application_id) {
  ASSIGN_OR_RETURN(const int64_t id, QueryInt("PRAGMA application_id"));
  ASSIGN_OR_RETURN(const int64_t version, QueryInt("PRAGMA user_version"));
  ASSIGN_OR_RETURN(const int64_t tables, QueryInt("SELECT count(*) FROM sqlite_schema"));
  const bool empty = tables == 0 && version == 0 && id == 0;
  if (!empty && id != application_id) {
    return FailedPrecondition(path_, ": an SQLite file of another application (application_id ", id,
                              ", expected ", application_id, ")");
  }
  if (version > static_cast<int64_t>(steps.size())) {
    return FailedPrecondition(path_, ": written by a newer version of Featurescope (schema ",
                              version, ", this one knows up to ", steps.size(),
                              "); use that version");
  }
  for (size_t step = static_cast<size_t>(version); step < steps.size(); ++step) {
    ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(this));
    RETURN_IF_ERROR(Execute(steps[step].sql));
    RETURN_IF_ERROR(Execute(absl::StrCat("PRAGMA application_id=", application_id,
                                         "; PRAGMA user_version=", step + 1)));
    RETURN_IF_ERROR(transaction.Commit());
  }
  return absl::OkStatus();
}

absl::Status Database::QuickCheck() {
  ASSIGN_OR_RETURN(Statement statement, Prepare("PRAGMA quick_check(5)"));
  ASSIGN_OR_RETURN(bool row, statement.Step());
  std::string found;
  while (row) {
    const std::string line = statement.Text(0);
    if (line != "ok") absl::StrAppend(&found, found.empty() ? "" : "; ", line);
    ASSIGN_OR_RETURN(row, statement.Step());
  }
  if (!found.empty()) return absl::DataLossError(absl::StrCat(path_, ": damaged: ", found));
  return absl::OkStatus();
}

int64_t Database::changes() const { return sqlite3_changes64(db_); }

absl::StatusOr<Transaction> Transaction::Begin(Database* database) {
  ASSIGN_OR_RETURN(Statement begin, database->Prepare("BEGIN IMMEDIATE"));
  RETURN_IF_ERROR(begin.Run());
  return Transaction(database);
}

Transaction::~Transaction() {
  if (database_ == nullptr) return;
  // A full disk rolls back by itself; then there is nothing left to do.
  database_->Execute("ROLLBACK").IgnoreError();
}

absl::Status Transaction::Commit() {
  ASSIGN_OR_RETURN(Statement commit, database_->Prepare("COMMIT"));
  RETURN_IF_ERROR(commit.Run());
  database_ = nullptr;
  return absl::OkStatus();
}

std::string SqliteVersion() { return sqlite3_libversion(); }

}  // namespace featurescope
