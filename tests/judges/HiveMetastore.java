import org.apache.hadoop.hive.metastore.HiveMetaStore;
import org.apache.hadoop.hive.metastore.conf.MetastoreConf;
import org.apache.hadoop.hive.metastore.txn.TxnDbUtil;

/**
 * Serves a metastore after it has made the tables of its locks, for which its jar has no script.
 *
 * <p>Usage: java HiveMetastore.java PORT
 */
public final class HiveMetastore {
  public static void main(String[] arguments) throws Throwable {
    TxnDbUtil.prepDb(MetastoreConf.newMetastoreConf());
    HiveMetaStore.main(new String[] {"-p", arguments[0]});
  }
}
