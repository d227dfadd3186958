package org.apache.hudi.aws.transaction.lock;

import com.amazonaws.AmazonServiceException;
import com.amazonaws.client.builder.AwsClientBuilder.EndpointConfiguration;
import com.amazonaws.services.s3.AmazonS3;
import com.amazonaws.services.s3.AmazonS3ClientBuilder;
import com.amazonaws.services.s3.model.ObjectMetadata;
import com.amazonaws.services.s3.model.PutObjectRequest;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.util.Properties;
import org.apache.hudi.client.transaction.lock.StorageLockClient;
import org.apache.hudi.client.transaction.lock.models.LockGetResult;
import org.apache.hudi.client.transaction.lock.models.LockUpsertResult;
import org.apache.hudi.client.transaction.lock.models.StorageLockData;
import org.apache.hudi.client.transaction.lock.models.StorageLockFile;
import org.apache.hudi.common.util.Option;
import org.apache.hudi.common.util.collection.Pair;

/**
 * The requests that Hudi's storage-based lock makes to an S3 server.
 *
 * <p>The lock itself is Hudi's: what is written, when it is free, renewed and given back. Its own
 * client of this name comes in a bundle that Maven Central does not have; this one makes the same
 * two requests, to the server that the property `lock.endpoint` names.
 */
public final class S3StorageLockClient implements StorageLockClient {
  private static final int NOT_FOUND = 404;
  private static final int PRECONDITION_FAILED = 412;

  private final AmazonS3 store =
      AmazonS3ClientBuilder.standard()
          .withEndpointConfiguration(
              new EndpointConfiguration(System.getProperty("lock.endpoint"), "us-east-1"))
          .withPathStyleAccessEnabled(true)
          .build();
  private final String bucket;
  private final String key;

  /** Called by reflection, with these arguments. */
  public S3StorageLockClient(String owner, String place, Properties properties) {
    var parts = StorageLockClient.parseBucketAndPath(place);
    bucket = parts.getLeft();
    key = parts.getRight();
  }

  @Override
  public Pair<LockUpsertResult, Option<StorageLockFile>> tryUpsertLockFile(
      StorageLockData claim, Option<StorageLockFile> previous) {
    var content = StorageLockFile.toByteArray(claim);
    var metadata = new ObjectMetadata();
    metadata.setContentLength(content.length);
    var request = new PutObjectRequest(bucket, key, new ByteArrayInputStream(content), metadata);
    if (previous.isPresent()) {
      request.putCustomRequestHeader("If-Match", '"' + previous.get().getVersionId() + '"');
    } else {
      request.putCustomRequestHeader("If-None-Match", "*");
    }
    try {
      var written = new StorageLockFile(claim, store.putObject(request).getETag());
      return Pair.of(LockUpsertResult.SUCCESS, Option.of(written));
    } catch (AmazonServiceException refused) {
      var isTaken = refused.getStatusCode() == PRECONDITION_FAILED;
      var result = isTaken ? LockUpsertResult.ACQUIRED_BY_OTHERS : LockUpsertResult.UNKNOWN_ERROR;
      return Pair.of(result, Option.empty());
    }
  }

  @Override
  public Pair<LockGetResult, Option<StorageLockFile>> readCurrentLockFile() {
    try (var found = store.getObject(bucket, key)) {
      var version = found.getObjectMetadata().getETag();
      var file = StorageLockFile.createFromStream(found.getObjectContent(), version);
      return Pair.of(LockGetResult.SUCCESS, Option.of(file));
    } catch (AmazonServiceException refused) {
      var isAbsent = refused.getStatusCode() == NOT_FOUND;
      var result = isAbsent ? LockGetResult.NOT_EXISTS : LockGetResult.UNKNOWN_ERROR;
      return Pair.of(result, Option.empty());
    } catch (IOException error) {
      return Pair.of(LockGetResult.UNKNOWN_ERROR, Option.empty());
    }
  }

  /** Nobody audits the lock: there is nothing to read. */
  @Override
  public Option<String> readObject(String place, boolean looksFirst) {
    return Option.empty();
  }

  @Override
  public boolean writeObject(String place, String content) {
    return false;
  }

  @Override
  public void close() {
    store.shutdown();
  }
}
