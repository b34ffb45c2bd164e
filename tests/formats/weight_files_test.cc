#include "server/formats/weight_files.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/formats/test_files.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

std::string OneTensor(const std::string& name, const std::string& content) {
  return SafetensorsBytes("{\"" + name + R"(":{"dtype":"U8","shape":[)" +
                              std::to_string(content.size()) + R"(],"data_offsets":[0,)" +
                              std::to_string(content.size()) + "]}}",
                          content);
}

class WeightFilesTest : public ::testing::Test {
 protected:
  void WriteIndex(const std::string& weight_map) {
    WriteBytes(dir_ / "model.safetensors.index.json",
               R"({"metadata":{"total_size":2},"weight_map":)" + weight_map + "}");
  }
  std::string Error(absl::StatusCode code) {
    const absl::Status status = WeightFiles::Open(dir_.path()).status();
    EXPECT_EQ(status.code(), code) << status;
    return std::string(status.message());
  }

  TempDir dir_;
};

TEST_F(WeightFilesTest, OneFile) {
  WriteBytes(dir_ / "model.safetensors", OneTensor("a", "xy"));
  absl::StatusOr<WeightFiles> weights = WeightFiles::Open(dir_.path());
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_TRUE(weights->Find("a"));
  EXPECT_EQ(weights->Find("a").entry->bytes(), 2u);
  EXPECT_FALSE(weights->Find("b"));
}

TEST_F(WeightFilesTest, Shards) {
  WriteBytes(dir_ / "m-1.safetensors", OneTensor("a", "x"));
  WriteBytes(dir_ / "m-2.safetensors", OneTensor("b", "yz"));
  WriteIndex(R"({"a":"m-1.safetensors","b":"m-2.safetensors"})");
  absl::StatusOr<WeightFiles> weights = WeightFiles::Open(dir_.path());
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(weights->files().size(), 2u);
  EXPECT_EQ(weights->All().size(), 2u);
  const WeightFiles moved = *std::move(weights);
  char bytes[2];
  const WeightFiles::Found b = moved.Find("b");
  ASSERT_TRUE(b.file->Read(*b.entry, absl::MakeSpan(bytes)).ok());
  EXPECT_EQ(std::string(bytes, 2), "yz");
}

TEST_F(WeightFilesTest, AnEmptyDirectoryNamesBothFiles) {
  const std::string error = Error(absl::StatusCode::kNotFound);
  EXPECT_THAT(error, HasSubstr("model.safetensors"));
  EXPECT_THAT(error, HasSubstr("model.safetensors.index.json"));
  WriteBytes(dir_ / "pytorch_model.bin", "");
  EXPECT_THAT(Error(absl::StatusCode::kNotFound), HasSubstr("convert it"));
}

TEST_F(WeightFilesTest, ShardNamesMustBePlain) {
  fs::create_directory(dir_ / "sub");
  WriteBytes(dir_ / "sub/m.safetensors", OneTensor("a", "x"));
  for (const char* name : {"sub/m.safetensors", "../m.safetensors", "/etc/passwd", "..", ".", "",
                           ".hidden", "a b", "m\\u0000.safetensors", "s\xc3\xb6"}) {
    WriteIndex(std::string(R"({"a":")") + name + "\"}");
    EXPECT_THAT(Error(absl::StatusCode::kInvalidArgument), HasSubstr("plain name")) << name;
  }
  WriteIndex(R"({"a":1})");
  Error(absl::StatusCode::kInvalidArgument);
  WriteIndex("{}");
  Error(absl::StatusCode::kInvalidArgument);
  WriteIndex("[]");
  Error(absl::StatusCode::kInvalidArgument);
}

TEST_F(WeightFilesTest, IndexAndShardsMustAgree) {
  WriteBytes(dir_ / "m-1.safetensors", OneTensor("a", "x"));
  WriteBytes(dir_ / "m-2.safetensors", OneTensor("b", "y"));
  WriteIndex(R"({"a":"m-1.safetensors","c":"m-2.safetensors"})");
  EXPECT_THAT(Error(absl::StatusCode::kInvalidArgument), HasSubstr("\"c\""));
  WriteIndex(R"({"a":"m-1.safetensors","b":"m-1.safetensors"})");
  EXPECT_THAT(Error(absl::StatusCode::kInvalidArgument), HasSubstr("\"b\""));
  WriteIndex(R"({"a":"m-1.safetensors","b":"m-3.safetensors"})");
  EXPECT_THAT(Error(absl::StatusCode::kNotFound), HasSubstr("m-3"));
  // A tensor that lies in two shards, and is listed for one of them.
  WriteBytes(dir_ / "m-2.safetensors",
             SafetensorsBytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                              R"("b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                              "xy"));
  WriteIndex(R"({"a":"m-1.safetensors","b":"m-2.safetensors"})");
  EXPECT_THAT(Error(absl::StatusCode::kInvalidArgument), HasSubstr("\"a\""));
}

TEST_F(WeightFilesTest, LinksMustStayInsideOrBeAllowed) {
  TempDir blobs;
  WriteBytes(blobs / "blob", OneTensor("a", "x"));
  fs::create_symlink(blobs / "blob", dir_ / "model.safetensors");
  Error(absl::StatusCode::kPermissionDenied);
  EXPECT_TRUE(WeightFiles::Open(dir_.path(), {blobs.path()}).ok());
  fs::remove(dir_ / "model.safetensors");
  fs::create_symlink(blobs / "blob", dir_ / "m.safetensors");
  WriteIndex(R"({"a":"m.safetensors"})");
  Error(absl::StatusCode::kPermissionDenied);
}

TEST_F(WeightFilesTest, ABadShardIsNamed) {
  WriteBytes(dir_ / "m-1.safetensors", OneTensor("a", "x") + "tail");
  WriteIndex(R"({"a":"m-1.safetensors"})");
  EXPECT_THAT(Error(absl::StatusCode::kInvalidArgument), HasSubstr("m-1.safetensors"));
}

}  // namespace
}  // namespace featurescope
