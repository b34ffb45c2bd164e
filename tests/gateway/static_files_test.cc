#include "server/gateway/static_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>

namespace featurescope {
namespace {

using ::testing::HasSubstr;

constexpr absl::string_view kPage = "text/html,application/xhtml+xml";

class StaticFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::path(::testing::TempDir()) / "featurescope_dist" /
            ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
    Write("index.html", "<html>app</html>");
    script_ = "const a = 1;" + std::string(4000, ' ');
    Write("assets/app-Ab3_d-9x.js", script_);
    Write("favicon.svg", "<svg/>");
    Write(".secret", "no");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& name, const std::string& bytes) {
    std::filesystem::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name, std::ios::binary) << bytes;
  }
  StaticFiles Load() { return StaticFiles::Load(root_.string()).value(); }

  std::filesystem::path root_;
  std::string script_;
};

std::string Header(const HttpResponse& response, absl::string_view name) {
  for (const auto& [key, value] : response.headers) {
    if (key == name) return value;
  }
  return "";
}

std::string Gunzip(const std::string& bytes) {
  std::string out(1 << 16, '\0');
  z_stream stream = {};
  inflateInit2(&stream, 15 + 16);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  inflateEnd(&stream);
  return out;
}

TEST_F(StaticFilesTest, IndexIsNotCachedAndHasAPolicy) {
  const StaticFiles files = Load();
  const HttpResponse page = files.Find("/", kPage, "", "");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(*page.body, "<html>app</html>");
  EXPECT_EQ(Header(page, "Cache-Control"), "no-cache");
  EXPECT_THAT(Header(page, "Content-Security-Policy"), HasSubstr("frame-ancestors 'none'"));
  EXPECT_THAT(Header(page, "Content-Security-Policy"), HasSubstr("connect-src 'self'"));
}

TEST_F(StaticFilesTest, HashedFilesAreImmutable) {
  const HttpResponse script = Load().Find("/assets/app-Ab3_d-9x.js", "*/*", "", "");
  EXPECT_EQ(*script.body, script_);
  EXPECT_THAT(Header(script, "Cache-Control"), HasSubstr("immutable"));
  EXPECT_THAT(Header(script, "Content-Type"), HasSubstr("text/javascript"));
  EXPECT_EQ(Header(Load().Find("/favicon.svg", "", "", ""), "Cache-Control"), "no-cache");
}

TEST_F(StaticFilesTest, GzipIsSentToThoseWhoAcceptIt) {
  const StaticFiles files = Load();
  const HttpResponse zipped =
      files.Find("/assets/app-Ab3_d-9x.js", "*/*", "br, gzip;q=0.8, deflate", "");
  EXPECT_EQ(Header(zipped, "Content-Encoding"), "gzip");
  EXPECT_EQ(Gunzip(*zipped.body), script_);
  const HttpResponse refused = files.Find("/assets/app-Ab3_d-9x.js", "*/*", "gzip;q=0", "");
  EXPECT_EQ(Header(refused, "Content-Encoding"), "");
  EXPECT_NE(Header(refused, "ETag"), Header(zipped, "ETag"));
  EXPECT_EQ(Header(refused, "Vary"), "Accept-Encoding");
}

TEST_F(StaticFilesTest, KnownTagGives304) {
  const StaticFiles files = Load();
  const std::string tag = Header(files.Find("/", kPage, "", ""), "ETag");
  for (const std::string& held : {tag, "W/" + tag, "\"x\", " + tag, std::string("*")}) {
    const HttpResponse response = files.Find("/", kPage, "", held);
    EXPECT_EQ(response.status, 304) << held;
    EXPECT_EQ(response.body, nullptr);
    EXPECT_EQ(Header(response, "ETag"), tag);
  }
  EXPECT_EQ(files.Find("/", kPage, "", "\"other\"").status, 200);
}

TEST_F(StaticFilesTest, PagesOfTheAppFallBackToTheIndexForBrowsersOnly) {
  const StaticFiles files = Load();
  EXPECT_EQ(*files.Find("/sae/demo/feature/7", kPage, "", "").body, "<html>app</html>");
  EXPECT_EQ(files.Find("/sae/demo/feature/7", "application/json", "", "").status, 404);
  EXPECT_EQ(files.Find("/assets/gone-12345678.js", kPage, "", "").status, 404);
}

TEST_F(StaticFilesTest, NothingOutsideTheSetIsReachable) {
  std::filesystem::create_symlink("/etc/passwd", root_ / "link.txt");
  const StaticFiles files = Load();
  EXPECT_EQ(files.size(), 3u);
  for (absl::string_view path :
       {"/../../../../etc/passwd", "/assets/../../etc/passwd", "/%2e%2e/etc/passwd", "//etc/passwd",
        "/.secret", "/link.txt", "/assets/", "/assets/app-Ab3_d-9x.js/", "/index.html%00",
        "/\\..\\"}) {
    EXPECT_EQ(files.Find(path, "*/*", "", "").status, 404) << path;
  }
}

TEST_F(StaticFilesTest, UnbuiltAppExplainsItself) {
  for (const std::string& directory : {std::string(), (root_ / "absent").string()}) {
    const StaticFiles files = StaticFiles::Load(directory).value();
    const HttpResponse page = files.Find("/", kPage, "", "");
    EXPECT_EQ(page.status, 503);
    EXPECT_THAT(*page.body, HasSubstr("npm run build"));
    EXPECT_EQ(files.Find("/app.js", "*/*", "", "").status, 404);
  }
}

}  // namespace
}  // namespace featurescope
