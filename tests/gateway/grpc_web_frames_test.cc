#include "server/gateway/grpc_web_frames.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "tests/gateway/raw_client.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

std::string Bytes(absl::string_view hex) { return absl::HexStringToBytes(hex); }

TEST(EnvelopeTest, HeaderIsFlagsAndBigEndianLength) {
  const auto header = EnvelopeHeader(kGrpcWebTrailer, 0x01020304);
  EXPECT_EQ(absl::string_view(header.data(), header.size()), Bytes("8001020304"));
}

TEST(EnvelopeTest, OneMessageIsFound) {
  EXPECT_EQ(SingleMessage(Bytes("0000000003616263"), 3).value(), "abc");
  EXPECT_EQ(SingleMessage(Bytes("0000000000"), 0).value(), "");
}

TEST(EnvelopeTest, NoneAndSeveralMessagesAreUnimplemented) {
  EXPECT_EQ(SingleMessage("", 10).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(SingleMessage(Bytes("00000000000000000000"), 10).status().code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(SingleMessage(Bytes("8000000000"), 10).status().code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(SingleMessage(Bytes("0100000000"), 10).status().code(),
            absl::StatusCode::kUnimplemented);
}

TEST(EnvelopeTest, LengthIsCheckedBeforeTheBytes) {
  const absl::Status status = SingleMessage(Bytes("00ffffffff61"), 1 << 20).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("4294967295"));
  EXPECT_EQ(SingleMessage(Bytes("000000000461626364"), 3).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(EnvelopeTest, TruncationAtEveryByteIsAnError) {
  const std::string whole = Envelope("hello");
  for (size_t n = 1; n < whole.size(); ++n) {
    EXPECT_EQ(SingleMessage(whole.substr(0, n), 100).status().code(),
              absl::StatusCode::kInvalidArgument)
        << n;
  }
}

TEST(EnvelopeTest, UnknownFlagsAreRefused) {
  EXPECT_EQ(SingleMessage(Bytes("0200000000"), 10).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(TrailerTest, GoldenBytesOfOk) {
  // grpc-status: 0 CRLF, sixteen bytes, no blank line after it.
  EXPECT_EQ(TrailerFrame({}, {}), Bytes("8000000010") + "grpc-status: 0\r\n");
}

TEST(TrailerTest, GoldenBytesOfAnErrorWithDetails) {
  const std::string details("\x08\x08\x12\x02no");
  EXPECT_EQ(TrailerFrame({8, "100% \xc3\xbc", details}, {{"x-a", "b"}, {"x-b-bin", "\xff"}}),
            Bytes("8000000067") +
                "grpc-status: 8\r\ngrpc-message: 100%25 %C3%BC\r\n"
                "grpc-status-details-bin: CAgSAm5v\r\nx-a: b\r\nx-b-bin: /w==\r\n");
}

TEST(TrailerTest, DetailsWithAnotherCodeAreLeftOut) {
  EXPECT_EQ(TrailerFrame({8, "", std::string("\x08\x05")}, {}),
            Bytes("8000000010") + "grpc-status: 8\r\n");
  // No code at all reads as 0, which a client would take for success.
  EXPECT_EQ(TrailerFrame({8, "", std::string("\x12\x02no")}, {}),
            Bytes("8000000010") + "grpc-status: 8\r\n");
}

TEST(TrailerTest, ReservedAndIllegalTrailersAreLeftOut) {
  const GrpcWebMetadata trailers = {{"grpc-status-details-bin", "x"}, {"grpc-status", "0"},
                                    {"x-crlf", "a\r\nevil: 1"},       {"Upper", "a"},
                                    {"content-length", "3"},          {"x-ok", "yes"}};
  EXPECT_EQ(TrailerFrame({}, trailers).substr(5), "grpc-status: 0\r\nx-ok: yes\r\n");
}

TEST(TrailerTest, InitialMetadataBecomesHeaders) {
  EXPECT_THAT(ResponseHeaders({{"x-a", "b"}, {"set-cookie", "c"}, {"x-b-bin", "\x01"}}),
              ElementsAre(Pair("x-a", "b"), Pair("x-b-bin", "AQ==")));
}

TEST(GrpcMessageTest, EncodesPercentControlAndNonAscii) {
  EXPECT_EQ(EncodeGrpcMessage("a b~%\n\x7f\xe2\x82\xac"), "a b~%25%0A%7F%E2%82%AC");
}

TEST(GrpcMessageTest, ReplacesWhatIsNotUtf8) {
  // A lone continuation byte, an overlong slash, a surrogate, a cut sequence.
  EXPECT_EQ(EncodeGrpcMessage("\x80"), "%EF%BF%BD");
  EXPECT_EQ(EncodeGrpcMessage("\xc0\xaf"), "%EF%BF%BD%EF%BF%BD");
  EXPECT_EQ(EncodeGrpcMessage("\xed\xa0\x80"), "%EF%BF%BD%EF%BF%BD%EF%BF%BD");
  EXPECT_EQ(EncodeGrpcMessage("x\xe2\x82"), "x%EF%BF%BD%EF%BF%BD");
}

TEST(GrpcMessageTest, IsCutAtACharacter) {
  EXPECT_EQ(EncodeGrpcMessage(std::string(5000, 'a')).size(), 1024u);
  const std::string cut = EncodeGrpcMessage(std::string(1023, 'a') + "\xc3\xbc");
  EXPECT_EQ(cut, std::string(1023, 'a'));
}

TEST(StatusDetailsTest, FindsTheCodeAnywhere) {
  EXPECT_EQ(StatusDetailsCode(Bytes("12026e6f0808")), 8);
  EXPECT_EQ(StatusDetailsCode(""), 0);
  EXPECT_EQ(StatusDetailsCode(Bytes("1d01020304")), 0);  // an unknown 32-bit field
}

TEST(StatusDetailsTest, RefusesWhatIsNoMessage) {
  EXPECT_FALSE(StatusDetailsCode(Bytes("08")).has_value());
  EXPECT_FALSE(StatusDetailsCode(Bytes("12ff")).has_value());
  EXPECT_FALSE(StatusDetailsCode(Bytes("120561")).has_value());
  EXPECT_FALSE(StatusDetailsCode(Bytes("0b")).has_value());
  EXPECT_FALSE(StatusDetailsCode(Bytes("ffffffffffffffffffffff")).has_value());
}

TEST(TimeoutTest, ReadsEveryUnit) {
  EXPECT_EQ(ParseGrpcTimeout("2H").value(), absl::Hours(2));
  EXPECT_EQ(ParseGrpcTimeout("3M").value(), absl::Minutes(3));
  EXPECT_EQ(ParseGrpcTimeout("0S").value(), absl::ZeroDuration());
  EXPECT_EQ(ParseGrpcTimeout("5000m").value(), absl::Seconds(5));
  EXPECT_EQ(ParseGrpcTimeout("7u").value(), absl::Microseconds(7));
  EXPECT_EQ(ParseGrpcTimeout("99999999n").value(), absl::Nanoseconds(99999999));
}

TEST(TimeoutTest, RefusesEverythingElse) {
  for (absl::string_view bad :
       {"", "m", "1", "-1S", "+1S", " 1S", "1 S", "123456789S", "1s", "1.5S", "1SS", "0x1S"}) {
    EXPECT_FALSE(ParseGrpcTimeout(bad).ok()) << bad;
  }
}

TEST(Base64Test, RoundTripsEveryLengthAlsoInPieces) {
  std::string bytes;
  std::string pieces;
  std::string joined;
  for (int n = 0; n < 70; ++n) {
    EXPECT_EQ(DecodeBase64(absl::Base64Escape(bytes)).value(), bytes);
    pieces += absl::Base64Escape(bytes);
    joined += bytes;
    bytes.push_back(static_cast<char>(n * 37));
  }
  EXPECT_EQ(DecodeBase64(pieces).value(), joined);
}

TEST(Base64Test, RefusesOtherCharactersBadPaddingAndSpareBits) {
  for (absl::string_view bad : {"a", "ab", "abc", "====", "a===", "ab=c", "a=bc", "ab c", "ab\ncd",
                                "ab-_", "abcd=", "QR==", "QUF="}) {
    EXPECT_FALSE(DecodeBase64(bad).ok()) << bad;
  }
  EXPECT_FALSE(DecodeBase64("a", true).ok());
}

TEST(Base64Test, LastPaddingMayBeOptional) {
  EXPECT_EQ(DecodeBase64("QQ", true).value(), "A");
  EXPECT_EQ(DecodeBase64("QUI", true).value(), "AB");
  EXPECT_EQ(DecodeBase64("QUI=", true).value(), "AB");
}

TEST(ContentTypeTest, KnowsTheFormsOfGrpcWeb) {
  const auto text = ParseGrpcWebContentType("Application/GRPC-web-text+proto; charset=x");
  ASSERT_TRUE(text.has_value());
  EXPECT_TRUE(text->text);
  EXPECT_EQ(text->response, "application/grpc-web-text+proto");
  for (absl::string_view good : {"application/grpc-web", "application/grpc-web+proto"}) {
    ASSERT_TRUE(ParseGrpcWebContentType(good).has_value()) << good;
    EXPECT_FALSE(ParseGrpcWebContentType(good)->text);
  }
  for (absl::string_view bad : {"", "application/grpc", "application/grpc-web+json",
                                "application/grpc-webx", "application/json", "text/plain"}) {
    EXPECT_FALSE(ParseGrpcWebContentType(bad).has_value()) << bad;
  }
}

TEST(RpcPathTest, NeedsPackageServiceAndMethod) {
  EXPECT_TRUE(IsRpcPath("/featurescope.v1.Catalog/ListModels"));
  for (absl::string_view bad :
       {"", "/", "/a.B", "/a.B/", "/a.B/c/d", "a.B/c", "/Catalog/List", "/a..B/c", "/.a/b", "/a./b",
        "/a.B/c-d", "/a.B/c?x", "/assets/index.js", "/a.B/%41", "/a.1B/c", "/../etc"}) {
    EXPECT_FALSE(IsRpcPath(bad)) << bad;
  }
  EXPECT_FALSE(IsRpcPath("/a.B/" + std::string(600, 'c')));
}

TEST(MetadataTest, ForwardsOnlyTheAllowedHeaders) {
  const auto metadata = ForwardedMetadata({{"Authorization", " Bearer abc "},
                                           {"cookie", "secret"},
                                           {"x-featurescope-peer", "10.0.0.1"},
                                           {"X-FeatureScope-Peer", "10.0.0.1"},
                                           {"x-featurescope-view", "7"},
                                           {"x-featurescope-raw-bin", "QQ, QUI="},
                                           {"grpc-timeout", "1S"},
                                           {"traceparent", "00-1-2-3"},
                                           {"te", "trailers"}});
  EXPECT_THAT(metadata.value(),
              ElementsAre(Pair("authorization", "Bearer abc"), Pair("x-featurescope-view", "7"),
                          Pair("x-featurescope-raw-bin", "A"), Pair("x-featurescope-raw-bin", "AB"),
                          Pair("traceparent", "00-1-2-3")));
}

TEST(MetadataTest, RefusesValuesThatMetadataCannotHold) {
  for (absl::string_view bad : {"a\x01", "caf\xc3\xa9", "a\tb", "\x7f"}) {
    EXPECT_EQ(ForwardedMetadata({{"authorization", std::string(bad)}}).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_FALSE(ForwardedMetadata({{"x-sae-a-bin", "!!"}}).ok());
  EXPECT_FALSE(ForwardedMetadata({{"x-sae-a b", "1"}}).ok());
  EXPECT_THAT(ForwardedMetadata({{"cookie", "\x01"}}).value(), IsEmpty());
}

}  // namespace
}  // namespace featurescope
