import java.net.InetSocketAddress;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.CatalogUtil;
import org.apache.iceberg.rest.RESTCatalogAdapter;
import org.apache.iceberg.rest.RESTCatalogServlet;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;

/**
 * Serves the REST catalog of the reference implementation on a free loopback port, which it prints.
 *
 * <p>Usage: java RestCatalog.java DATABASE_FILE WAREHOUSE_URI
 */
public final class RestCatalog {
  public static void main(String[] arguments) throws Exception {
    var properties =
        Map.of(
            "uri", "jdbc:sqlite:" + arguments[0],
            "warehouse", arguments[1],
            "jdbc.schema-version", "V1");
    var catalog =
        CatalogUtil.loadCatalog(
            "org.apache.iceberg.jdbc.JdbcCatalog", "rest", properties, new Configuration());
    var context = new ServletContextHandler();
    context.addServlet(
        new ServletHolder(new RESTCatalogServlet(new RESTCatalogAdapter(catalog))), "/*");
    var server = new Server(new InetSocketAddress("127.0.0.1", 0));
    server.setHandler(context);
    server.start();
    System.out.println(server.getURI().getPort());
    server.join();
  }
}
