#include "server/formats/zip_archive.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/formats/test_files.h"
#include "tests/formats/zip_bytes.h"

namespace featurescope {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr absl::string_view kLocal = "PK\x03\x04";
constexpr absl::string_view kEntry = "PK\x01\x02";
constexpr absl::string_view kEnd = "PK\x05\x06";
constexpr absl::string_view kEnd64 = "PK\x06\x06";
constexpr absl::string_view kLocator = "PK\x06\x07";

// Text that deflates to less, but not to next to nothing.
std::string Letters(size_t n) {
  std::mt19937 random(11);
  std::string text(n, ' ');
  for (char& c : text) c = static_cast<char>('a' + random() % 8);
  return text;
}

class ZipArchiveTest : public testing::Test {
 protected:
  absl::StatusOr<ZipArchive> Open(const std::string& bytes) {
    return ZipArchive::Open(WriteBytes(dir_ / "a.zip", bytes));
  }
  std::string Error(const std::string& bytes) {
    const auto archive = Open(bytes);
    return archive.ok() ? "it opens" : std::string(archive.status().message());
  }
  // All members' contents, or the first error.
  absl::StatusOr<std::vector<std::string>> ReadAll(const std::string& bytes) {
    const auto archive = Open(bytes);
    if (!archive.ok()) return archive.status();
    std::vector<std::string> contents;
    for (const ZipMember& member : archive->members()) {
      const auto content = archive->Read(member, 1u << 20);
      if (!content.ok()) return content.status();
      contents.push_back(*content);
    }
    return contents;
  }

  TempDir dir_;
  const std::vector<ZipPart> parts_ = {{"a/stored", Letters(3000)},
                                       {"deflated", Letters(5000), true},
                                       {"empty", ""},
                                       {"empty deflated", "", true}};
};

TEST_F(ZipArchiveTest, StoredAndDeflatedMembersReadBack) {
  for (bool zip64 : {false, true}) {
    const auto archive = Open(ZipBytes(parts_, zip64));
    ASSERT_TRUE(archive.ok()) << archive.status();
    ASSERT_EQ(archive->members().size(), parts_.size());
    for (size_t i = 0; i < parts_.size(); ++i) {
      const ZipMember& member = archive->members()[i];
      EXPECT_EQ(member.name, parts_[i].name);
      EXPECT_EQ(archive->Find(member.name), &member);
      EXPECT_EQ(archive->Read(member, 5000).value(), parts_[i].content);
      std::string streamed;
      EXPECT_TRUE(archive
                      ->Stream(member,
                               [&](absl::Span<const char> piece) {
                                 streamed.append(piece.data(), piece.size());
                                 return absl::OkStatus();
                               })
                      .ok());
      EXPECT_EQ(streamed, parts_[i].content);
    }
    EXPECT_EQ(archive->Find("stored"), nullptr);
  }
}

TEST_F(ZipArchiveTest, PartsOfMembersAreReadWithinTheirBounds) {
  const auto archive = Open(ZipBytes(parts_));
  ASSERT_TRUE(archive.ok());
  const ZipMember& stored = archive->members()[0];
  const ZipMember& deflated = archive->members()[1];
  char part[10];
  ASSERT_TRUE(archive->ReadPrefix(deflated, absl::MakeSpan(part)).ok());
  EXPECT_EQ(std::string(part, 10), parts_[1].content.substr(0, 10));
  ASSERT_TRUE(archive->ReadStored(stored, 2990, absl::MakeSpan(part)).ok());
  EXPECT_EQ(std::string(part, 10), parts_[0].content.substr(2990));
  EXPECT_EQ(archive->ReadStored(stored, 2991, absl::MakeSpan(part)).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(archive->ReadStored(stored, UINT64_MAX, absl::MakeSpan(part)).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(archive->ReadStored(deflated, 0, absl::MakeSpan(part)).code(),
            absl::StatusCode::kFailedPrecondition);
  std::string too_long(5001, '\0');
  EXPECT_EQ(archive->ReadPrefix(deflated, absl::MakeSpan(too_long)).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(archive->Read(deflated, 4999).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ZipArchiveTest, ATakerMayStopTheStream) {
  const auto archive = Open(ZipBytes(parts_));
  EXPECT_EQ(archive
                ->Stream(archive->members()[0],
                         [](absl::Span<const char>) { return absl::CancelledError("enough"); })
                .message(),
            "enough");
}

TEST_F(ZipArchiveTest, MembersLargerThanOnePieceAreStreamedWhole) {
  const std::string content = Letters((5u << 20) / 2 + 1);
  const auto archive = Open(ZipBytes({{"s", content}, {"d", content, true}}));
  for (const ZipMember& member : archive->members()) {
    std::string streamed;
    ASSERT_TRUE(archive
                    ->Stream(member,
                             [&](absl::Span<const char> piece) {
                               EXPECT_LE(piece.size(), 1u << 20);
                               streamed.append(piece.data(), piece.size());
                               return absl::OkStatus();
                             })
                    .ok());
    EXPECT_TRUE(streamed == content);
  }
}

TEST_F(ZipArchiveTest, CommentsAreSkippedAlsoWhenTheyLookLikeAnEnd) {
  EXPECT_TRUE(Open(ZipBytes(parts_, false, "made by hand")).ok());
  std::string fake(kEnd);
  fake.append(18, '\0');
  const auto archive = Open(ZipBytes(parts_, false, fake + "x"));
  ASSERT_TRUE(archive.ok()) << archive.status();
  EXPECT_EQ(archive->members().size(), parts_.size());
}

TEST_F(ZipArchiveTest, EveryTruncationIsRefused) {
  for (bool zip64 : {false, true}) {
    const std::string bytes = ZipBytes({{"a", "stored"}, {"b", "deflated", true}}, zip64);
    for (size_t n = 0; n < bytes.size(); ++n) {
      EXPECT_FALSE(Open(bytes.substr(0, n)).ok()) << n;
    }
  }
}

TEST_F(ZipArchiveTest, DamageNeverGivesOtherContents) {
  const std::vector<ZipPart> parts = {{"a", "stored bytes"}, {"b", Letters(300), true}};
  for (bool zip64 : {false, true}) {
    const std::string bytes = ZipBytes(parts, zip64);
    for (size_t i = 0; i < bytes.size(); ++i) {
      for (int bit : {0, 3, 7}) {
        std::string damaged = bytes;
        damaged[i] = static_cast<char>(damaged[i] ^ 1 << bit);
        const auto contents = ReadAll(damaged);
        if (contents.ok()) {
          EXPECT_EQ(*contents, (std::vector<std::string>{parts[0].content, parts[1].content})) << i;
        }
      }
    }
  }
}

TEST_F(ZipArchiveTest, HeadersThatDisagreeWithTheDirectoryAreRefused) {
  const std::string bytes = ZipBytes(parts_);
  const size_t local = ZipStructure(bytes, kLocal, 1);
  EXPECT_THAT(Error(Patched(bytes, local + 30, 'D')), HasSubstr("disagree"));
  EXPECT_THAT(Error(Patched(bytes, local + 8, uint16_t{0})), HasSubstr("disagree"));   // method
  EXPECT_THAT(Error(Patched(bytes, local + 6, uint16_t{1})), HasSubstr("disagree"));   // encrypted
  EXPECT_THAT(Error(Patched(bytes, local + 14, uint32_t{7})), HasSubstr("disagree"));  // CRC
  EXPECT_THAT(Error(Patched(bytes, local + 18, uint32_t{1})), HasSubstr("disagree"));
  EXPECT_THAT(Error(Patched(bytes, local + 22, uint32_t{1})), HasSubstr("disagree"));
  // Sizes that follow the bytes may be missing in the header, but not be others.
  std::string later = Patched(bytes, local + 6, uint16_t{8});
  later = Patched(later, local + 18, uint32_t{0});
  EXPECT_TRUE(Open(later).ok());
  EXPECT_THAT(Error(Patched(later, local + 18, uint32_t{1})), HasSubstr("disagree"));
}

TEST_F(ZipArchiveTest, WhatChangesTheMeaningOfBytesIsRefused) {
  const std::string bytes = ZipBytes(parts_);
  const size_t entry = ZipStructure(bytes, kEntry);
  EXPECT_THAT(Error(Patched(bytes, entry + 8, uint16_t{1})), HasSubstr("encrypted"));
  EXPECT_THAT(Error(Patched(bytes, entry + 10, uint16_t{14})), HasSubstr("method 14"));
  EXPECT_THAT(Error(Patched(bytes, entry + 34, uint16_t{1})), HasSubstr("split"));
  EXPECT_THAT(Error(Patched(bytes, ZipStructure(bytes, kEnd) + 4, uint16_t{1})),
              HasSubstr("several disks"));
}

TEST_F(ZipArchiveTest, MembersOutsideTheFileOrOverEachOtherAreRefused) {
  const std::string bytes = ZipBytes(parts_);
  const size_t first = ZipStructure(bytes, kEntry);
  const size_t second = ZipStructure(bytes, kEntry, 1);
  EXPECT_THAT(Error(Patched(bytes, first + 42, uint32_t{0x7FFFFFFF})), HasSubstr("before the dir"));
  EXPECT_THAT(Error(Patched(bytes, first + 42, uint32_t{1})), HasSubstr("before the directory"));
  const uint32_t large = 0x7FFFFFFF;
  EXPECT_THAT(Error(Patched(Patched(bytes, first + 20, large), first + 24, large)),
              AllOf(HasSubstr("a/stored"), HasSubstr("before the directory")));
  // One header for two members.
  EXPECT_THAT(Error(Patched(bytes, second + 42, uint32_t{0})), HasSubstr("disagree"));
  const std::string twins = ZipBytes({{"a", "x"}, {"a", "x"}});
  EXPECT_THAT(Error(Patched(twins, ZipStructure(twins, kEntry, 1) + 42, uint32_t{0})),
              HasSubstr("overlaps"));
}

TEST_F(ZipArchiveTest, NamesAreUniqueAndPlain) {
  EXPECT_THAT(Error(ZipBytes({{"a", "1"}, {"a", "2"}})), HasSubstr("two members are named \"a\""));
  EXPECT_THAT(Error(ZipBytes({{"", "1"}})), HasSubstr("name is empty"));
  EXPECT_THAT(Error(ZipBytes({{std::string("a\0b", 3), "1"}})), HasSubstr("NUL"));
  EXPECT_THAT(Error(ZipBytes({{"\xff", "1"}})), HasSubstr("no UTF-8"));
  EXPECT_THAT(Error(ZipBytes({{std::string(kMaxZipNameBytes + 1, 'n'), "1"}})),
              HasSubstr("longer than 1024"));
}

TEST_F(ZipArchiveTest, TheTwoEndRecordsMustAgree) {
  const std::string bytes = ZipBytes(parts_, true);
  const size_t end64 = ZipStructure(bytes, kEnd64);
  EXPECT_THAT(Error(Patched(bytes, end64 + 32, uint64_t{3})), HasSubstr("disagree"));
  EXPECT_THAT(Error(Patched(bytes, end64 + 4, uint64_t{45})), HasSubstr("damaged"));
  EXPECT_THAT(Error(Patched(bytes, ZipStructure(bytes, kLocator) + 8, UINT64_MAX)),
              HasSubstr("locator"));
  EXPECT_THAT(Error(Patched(bytes, ZipStructure(bytes, kEnd) + 12, uint32_t{5})),
              HasSubstr("disagree"));
  // More members than bytes could describe; a directory that is no part of the file.
  std::string many = Patched(bytes, end64 + 24, uint64_t{1} << 60);
  EXPECT_FALSE(Open(Patched(many, end64 + 32, uint64_t{1} << 60)).ok());
  EXPECT_FALSE(Open(Patched(bytes, end64 + 40, UINT64_MAX)).ok());
  EXPECT_FALSE(Open(Patched(bytes, end64 + 48, UINT64_MAX)).ok());
}

TEST_F(ZipArchiveTest, ABombIsRefusedBeforeItInflates) {
  EXPECT_THAT(Error(ZipBytes({{"zeros", std::string(17u << 20, '\0'), true}})),
              HasSubstr("more than 100 times"));
  // Small arrays may be all zeros.
  EXPECT_TRUE(Open(ZipBytes({{"zeros", std::string(1u << 20, '\0'), true}})).ok());
}

TEST_F(ZipArchiveTest, LiesAboutTheInflatedSizeAreNoticed) {
  const std::string bytes = ZipBytes({{"m", Letters(5000), true}});
  for (uint32_t size : {0u, 4999u, 5001u, 70000u}) {
    std::string lie = Patched(bytes, ZipStructure(bytes, kEntry) + 24, size);
    lie = Patched(lie, ZipStructure(bytes, kLocal) + 22, size);
    EXPECT_EQ(ReadAll(lie).status().code(), absl::StatusCode::kInvalidArgument) << size;
  }
}

TEST_F(ZipArchiveTest, AFileShortenedMeanwhileIsDataLoss) {
  const std::string bytes = ZipBytes(parts_);
  const auto archive = Open(bytes);
  WriteBytes(dir_ / "a.zip", bytes.substr(0, 100));
  EXPECT_EQ(archive->Read(archive->members()[0], 5000).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST_F(ZipArchiveTest, WhatIsNoArchiveIsRefusedByName) {
  EXPECT_THAT(Error(""), HasSubstr("a.zip: bad zip archive"));
  EXPECT_THAT(Error(std::string(100000, 'x')), HasSubstr("no end record"));
  EXPECT_EQ(ZipArchive::Open(dir_ / "none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ZipArchive::Open(dir_.path()).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace featurescope
